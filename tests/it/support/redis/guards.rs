//! What guards a server: a login, and TLS.

use super::Options;

/// The one user of a server, who may do everything.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// A user besides the default one, whose password then is another.
    pub username: Option<&'static str>,
    pub password: &'static str,
}

impl Options {
    /// The arguments of a server for its port, and for what guards it.
    pub(super) fn guards(&self, port: u16) -> Vec<String> {
        let mut words = Vec::new();
        let mut say = |some: &[&str]| words.extend(some.iter().map(|&word| word.to_owned()));
        let port = port.to_string();
        match &self.tls {
            None => say(&["--port", &port]),
            Some(files) => {
                say(&["--port", "0", "--tls-port", &port]);
                say(&["--tls-replication", "yes", "--tls-cluster", "yes"]);
                for (name, file) in files.directives() {
                    say(&[&format!("--{name}"), file]);
                }
            }
        }
        if let Some(Login { username, password }) = self.login {
            say(&["--masterauth", password]);
            match username {
                None => say(&["--requirepass", password]),
                Some(name) => {
                    let secret = format!(">{password}");
                    say(&["--masteruser", name, "--requirepass", "nobody-knows"]);
                    say(&["--user", name, "on", &secret, "~*", "&*", "+@all"]);
                }
            }
        }
        words
    }

    /// How the URL of a server's port begins.
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "rediss",
            None => "redis",
        }
    }
}
