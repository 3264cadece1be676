//! Sample events of two platforms: a CRM for law firms and a customer service with chat, payments and boards.
//!
//! They are data: what the platforms are called, which types they emit and how they lay out their entries stands here
//! and in the settings that [`SOURCES`] is, and nowhere in the program.

use serde_json::value::RawValue;

use crate::clock::rfc3339_ms;

/// The two streams as settings: one platform writes each part into a field, the other one envelope.
pub const SOURCES: &str = r#"
[[sources]]
name = "crm"
stream = "crm:events"
format = "fields"
trim = "acknowledged"

[[sources]]
name = "atendimento"
stream = "atendimento:events"
format = "json"
field = "data"
trim = "acknowledged"
"#;

/// A platform: where it adds its events, for whom, and which.
pub struct Platform {
    /// Its stream.
    pub stream: &'static str,
    /// Its customer.
    pub tenant: &'static str,
    /// Whether it writes one envelope instead of fields.
    envelope: bool,
    events: [(&'static str, &'static str); 11],
}

/// One sample.
pub struct Sample {
    /// The platform that emits it.
    pub platform: &'static Platform,
    /// Its type.
    pub event_type: &'static str,
    payload: String,
}

/// The `n`th sample event, from 0: the platforms by turns, each going through its types again and again.
pub fn sample(n: u64) -> Sample {
    let count = PLATFORMS.len() as u64;
    // Both remainders are below the lengths of small arrays.
    let platform = &PLATFORMS[(n % count) as usize];
    let (event_type, payload) =
        platform.events[(n / count % platform.events.len() as u64) as usize];
    Sample {
        platform,
        event_type,
        payload: payload.replace("{n}", &(1_000 + n).to_string()),
    }
}

impl Sample {
    /// The fields of its stream entry.
    pub fn entry(&self, id: &str, now_ms: u64) -> Vec<(String, Vec<u8>)> {
        let fields: &[(&str, &str)] = &[
            ("id", id),
            ("type", self.event_type),
            ("tenant", self.platform.tenant),
            ("time", &rfc3339_ms(now_ms)),
            ("payload", &self.payload),
        ];
        if !self.platform.envelope {
            return fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect();
        }
        let envelope = Envelope {
            id,
            r#type: self.event_type,
            tenant: self.platform.tenant,
            time: rfc3339_ms(now_ms),
            // The samples are JSON, and a test reads each of them.
            payload: serde_json::from_str(&self.payload).unwrap_or_default(),
        };
        // Text and JSON always serialise.
        let envelope = serde_json::to_vec(&envelope).unwrap_or_default();
        vec![("data".to_owned(), envelope)]
    }
}

#[derive(serde::Serialize)]
struct Envelope<'a> {
    id: &'a str,
    r#type: &'a str,
    tenant: &'a str,
    time: String,
    payload: Box<RawValue>,
}

const PLATFORMS: [Platform; 2] = [
    Platform {
        stream: "crm:events",
        tenant: "lima-advogados",
        envelope: false,
        events: [
            (
                "crm.lead.created",
                r#"{"lead":{"id":"lead_{n}","nome":"Mariana Albuquerque","telefone":"+55 11 98888-0101","assunto":"Revisão de contrato de locação","origem":"site"},"funil":"Captação","etapa":"Novo contato"}"#,
            ),
            (
                "crm.lead.updated",
                r#"{"lead":{"id":"lead_{n}","nome":"Mariana Albuquerque","email":"mariana@exemplo.com.br"},"alterado":["email"]}"#,
            ),
            (
                "crm.lead.moved",
                r#"{"lead":{"id":"lead_{n}","nome":"Mariana Albuquerque"},"de":"Novo contato","para":"Proposta enviada","responsavel":"Dra. Helena Lima"}"#,
            ),
            (
                "crm.lead.deleted",
                r#"{"lead":{"id":"lead_{n}"},"motivo":"Cadastro duplicado"}"#,
            ),
            (
                "chat.conversation.created",
                r#"{"conversa":{"id":"conv_{n}","canal":"whatsapp","contato":"João Pedro Nascimento"},"mensagem":"Bom dia! Preciso de ajuda com uma ação trabalhista."}"#,
            ),
            (
                "chat.conversation.updated",
                r#"{"conversa":{"id":"conv_{n}","situacao":"em andamento"},"etiquetas":["trabalhista","urgente"]}"#,
            ),
            (
                "chat.conversation.assigned",
                r#"{"conversa":{"id":"conv_{n}"},"atendente":{"id":"usr_12","nome":"Rafael Conceição"}}"#,
            ),
            (
                "contact.created",
                r#"{"contato":{"id":"cont_{n}","nome":"João Pedro Nascimento","telefone":"+55 21 97777-0202"}}"#,
            ),
            (
                "contact.updated",
                r#"{"contato":{"id":"cont_{n}","cidade":"Niterói","uf":"RJ"},"alterado":["cidade","uf"]}"#,
            ),
            (
                "contact.deleted",
                r#"{"contato":{"id":"cont_{n}"},"motivo":"Pedido do titular (LGPD)"}"#,
            ),
            (
                "webhook.test",
                r#"{"mensagem":"Teste de entrega: está tudo certo por aqui.","numero":{n}}"#,
            ),
        ],
    },
    Platform {
        stream: "atendimento:events",
        tenant: "loja-aurora",
        envelope: true,
        events: [
            (
                "session.created",
                r#"{"atendimento":{"id":"sess_{n}","canal":"instagram","departamento":"Vendas"},"contato":"Beatriz Araújo"}"#,
            ),
            (
                "message.received",
                r#"{"mensagem":{"id":"msg_{n}","texto":"Oi, esse vestido ainda tem no tamanho M?"},"contato":"Beatriz Araújo"}"#,
            ),
            (
                "message.sent",
                r#"{"mensagem":{"id":"msg_{n}","texto":"Tem sim! Posso separar para você?"},"atendente":"Luíza Fontes"}"#,
            ),
            (
                "session.updated",
                r#"{"atendimento":{"id":"sess_{n}","situacao":"aguardando cliente"},"atendente":"Luíza Fontes"}"#,
            ),
            (
                "contact.created",
                r#"{"contato":{"id":"cont_{n}","nome":"Beatriz Araújo","instagram":"@bia.araujo"}}"#,
            ),
            (
                "contact.updated",
                r#"{"contato":{"id":"cont_{n}","nome":"Beatriz Araújo","cpf":"***.456.789-**"},"alterado":["cpf"]}"#,
            ),
            (
                "panel.card.created",
                r#"{"painel":"Pedidos","item":{"id":"card_{n}","titulo":"Vestido azul, tamanho M","coluna":"Separação"}}"#,
            ),
            (
                "panel.card.updated",
                r#"{"painel":"Pedidos","item":{"id":"card_{n}","coluna":"Enviado","rastreio":"BR123456789BR"}}"#,
            ),
            (
                "payment.created",
                r#"{"pagamento":{"id":"pag_{n}","valor":189.90,"moeda":"BRL","meio":"pix"},"vencimento":"2026-12-01"}"#,
            ),
            (
                "payment.updated",
                r#"{"pagamento":{"id":"pag_{n}","valor":189.90,"situacao":"pago"},"alterado":["situacao"]}"#,
            ),
            (
                "session.completed",
                r#"{"atendimento":{"id":"sess_{n}","duracao_s":742,"nota":5},"atendente":"Luíza Fontes"}"#,
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pretty::is_json;

    #[test]
    fn every_sample_is_json_and_has_a_type_of_its_own_within_its_platform() {
        for platform in &PLATFORMS {
            let mut types: Vec<&str> = platform.events.iter().map(|(name, _)| *name).collect();
            types.sort_unstable();
            types.dedup();
            assert_eq!(types.len(), 11);
            assert!(SOURCES.contains(&format!("stream = {:?}", platform.stream)));
        }
        for n in 0..22 {
            let sample = sample(n);
            assert!(is_json(sample.payload.as_bytes()), "{}", sample.payload);
            for (name, value) in sample.entry("evt_1", 0) {
                assert!(name != "data" || is_json(&value));
            }
        }
    }

    #[test]
    fn the_platforms_take_turns() {
        assert_eq!(sample(0).event_type, "crm.lead.created");
        assert_eq!(sample(1).event_type, "session.created");
        assert_eq!(sample(22).event_type, "crm.lead.created");
        assert_ne!(sample(0).payload, sample(22).payload);
    }
}
