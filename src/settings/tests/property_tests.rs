use std::collections::BTreeMap;
use std::time::Duration;

use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::settings::render::to_toml;

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn server() -> impl Strategy<Value = RedisServer> {
    let credentials = option::of((option::of("[ -~é]{1,20}"), "\\PC{1,20}"));
    let url = prop_oneof![
        "[a-z]{1,9}".prop_map(|host| format!("redis://{host}:6380")),
        "[a-z]{1,9}".prop_map(|host| format!("rediss://{host}")),
        Just("unix:///run/redis.sock".to_owned()),
    ];
    (url, credentials, option::of(0i64..65_536)).prop_map(|(url, credentials, database)| {
        let (username, password) = match credentials {
            Some((username, password)) => (username, Some(password.into())),
            None => (None, None),
        };
        RedisServer {
            username,
            password,
            database,
            ..RedisServer::new(url)
        }
    })
}

fn names(name: &'static str) -> impl Strategy<Value = FieldNames> {
    let part = || option::of(name);
    (name, part(), name, part(), part(), part()).prop_map(
        |(event_type, tenant, payload, id, time, content_type)| FieldNames {
            event_type: Some(event_type),
            tenant,
            payload: Some(payload),
            id,
            time,
            content_type,
        },
    )
}

fn source() -> impl Strategy<Value = SourceSettings> {
    let format = prop_oneof![
        Just(Format::Fields),
        Just(Format::Json),
        Just(Format::CloudEvents)
    ];
    let part = || prop_oneof![Just("type"), Just("tenant")];
    (
        ("[!-~]{1,30}", "[a-z]{1,12}"),
        option::of(server()),
        (
            format,
            names("[a-z \"\\\\é]{1,9}"),
            names("(/[a-z]{0,3}(~0|~1)?){1,3}"),
        ),
        ("[a-z\"]{1,9}", "[a-z0-9]{1,9}"),
        (
            option::of((part(), "[!-~]{1,20}")),
            option::of((part(), "[!-~]{1,20}")),
        ),
        (any::<bool>(), any::<bool>(), 1usize..10_000),
    )
        .prop_map(|((name, stream), server, layout, fields, parts, rest)| {
            let (format, fields_, pointers) = layout;
            let mut source = SourceSettings {
                name,
                server,
                format,
                ..SourceSettings::new(stream)
            };
            match format {
                Format::Fields => source.fields = fields_,
                Format::Json => source.pointers = pointers,
                Format::CloudEvents => source.tenant_attribute = fields.1,
            }
            if format != Format::Fields {
                source.field = fields.0;
            }
            let own = |part: Option<(&str, String)>| -> BTreeMap<String, String> {
                part.into_iter()
                    .map(|(name, text)| (name.to_owned(), text))
                    .collect()
            };
            source.constants = own(parts.0);
            source.defaults = own(parts.1);
            source.start = if rest.0 { Start::New } else { Start::Beginning };
            source.trim = if rest.1 {
                Trim::Acknowledged
            } else {
                Trim::None
            };
            source.read_count = rest.2;
            source.complete();
            source
        })
}

prop_compose! {
    fn settings()(
        server in server(),
        sources in prop::collection::vec(source(), 0..4),
        prefix in "[a-z:_\"\\\\-]{1,20}",
        watermark in 0.1f64..1.0,
        timeout in millis(5_000..300_000),
        first in millis(100..1_000_000),
        longest in millis(1_000_000..2_000_000_000),
        (factor, jitter) in (1.0f64..100.0, 0.0f64..1.0),
        attempts in 1u32..100_000,
        body in 1usize..(64 << 20),
        networks in prop::collection::vec((any::<[u8; 4]>(), 0u8..33), 0..3),
        port in 1u16..,
    ) -> Settings {
        let mut settings = Settings::defaults_for_tests();
        settings.redis.server = server;
        settings.redis.prefix = prefix;
        settings.redis.memory_watermark = watermark;
        settings.sources = sources;
        for (index, source) in settings.sources.iter_mut().enumerate() {
            source.name = format!("{index}{}", source.name);
            source.stream = format!("{}{index}", source.stream);
        }
        settings.delivery.timeout = timeout;
        settings.delivery.max_payload = body;
        settings.retry.first = first;
        settings.retry.longest = longest;
        settings.retry.factor = factor;
        settings.retry.jitter = jitter;
        settings.retry.max_attempts = attempts;
        settings.targets.allow = networks
            .into_iter()
            .map(|(address, length)| ipnet::Ipv4Net::new(address.into(), length).unwrap().trunc().into())
            .collect();
        settings.metrics.listen.set_port(port);
        settings
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn settings_that_were_written_are_read_as_the_same(settings in settings()) {
        let text = to_toml(&settings, Secrets::Exposed);
        match Surroundings::new().load(&text) {
            Ok(read) => prop_assert_eq!(read, settings),
            Err(error) => prop_assert!(false, "{}\n{}", error, text),
        }
    }

    #[test]
    fn printed_settings_are_toml_without_any_password(settings in settings()) {
        let printed = settings.to_toml_redacted();
        let table: toml::Table = printed.parse().unwrap();
        if settings.redis.server.password.is_some() {
            prop_assert_eq!(table["redis"]["password"].as_str(), Some("<hidden>"));
        }
        for (index, source) in settings.sources.iter().enumerate() {
            if source.server.as_ref().is_some_and(|server| server.password.is_some()) {
                prop_assert_eq!(table["sources"][index]["password"].as_str(), Some("<hidden>"));
            }
        }
    }

    #[test]
    fn unknown_keys_are_always_refused_and_their_value_is_never_shown(
        section in prop_oneof![Just(""), Just("redis."), Just("delivery."), Just("retry.")],
        key in "zz[a-z_]{1,20}",
    ) {
        const VALUE: &str = "VALUE-4711";
        let error = Surroundings::new().refused(&format!("{section}{key} = \"{VALUE}\"\n"));
        prop_assert_eq!(&error.problems[0].key, &format!("{section}{key}"));
        prop_assert!(!error.to_string().contains(VALUE));

        if let Some(section) = section.strip_suffix('.') {
            let variable = format!("POMBO_{section}__{key}").to_uppercase();
            let error = environment(&[(&variable, VALUE)]).unwrap_err();
            let text = error.to_string();
            prop_assert!(text.contains(&variable), "{}", text);
            prop_assert!(!text.contains(VALUE), "{}", text);
        }
    }

    #[test]
    fn a_password_never_shows_in_an_error_about_its_url(
        password in "[a-zA-Z0-9#?/@:%]{8,20}",
        rest in prop_oneof![Just("host"), Just(""), Just("host/x"), Just("host#y"), Just("host/1?z")],
        scheme in prop_oneof![Just("redis"), Just("rediss"), Just("http"), Just("redis+sentinel")],
    ) {
        let config = format!("[redis]\nurl = \"{scheme}://u:{password}@{rest}\"\nusername = \"v\"\n");
        let text = Surroundings::new().refused(&config).to_string();
        prop_assert!(!text.contains(&password), "{}", text);
    }

    #[test]
    fn no_file_and_no_variable_makes_loading_panic(config in "\\PC{0,80}", value in "\\PC{0,40}") {
        let _ = Surroundings::new().load(&config);
        let _ = environment(&[("POMBO__SOURCES", &value), ("POMBO_RETRY__FIRST", &value)]);
    }
}
