mod combination_tests;
mod layer_tests;
mod profile_tests;
mod property_tests;
mod refusal_tests;
mod secret_tests;
mod source_tests;
mod topology_tests;

use std::path::PathBuf;

use super::*;

/// A settings file in a directory of its own, beside which a test can put others.
struct Surroundings {
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Surroundings {
    fn new() -> Surroundings {
        Surroundings {
            directory: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn variable(mut self, name: &str, value: &str) -> Surroundings {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn load(&self, config: &str) -> Result<Settings, SettingsError> {
        let path = self.file("pombo.toml", config);
        Settings::load(None, Some(&path), self.environment.clone().into_iter())
    }

    fn refused(&self, config: &str) -> SettingsError {
        match self.load(config) {
            Ok(_) => panic!("was accepted: {config}"),
            Err(error) => error,
        }
    }
}

fn load(config: &str) -> Settings {
    match Surroundings::new().load(config) {
        Ok(settings) => settings,
        Err(error) => panic!("{config}\n{error}"),
    }
}

/// The one problem with a settings file.
fn problem(config: &str) -> Problem {
    let error = Surroundings::new().refused(config);
    let [problem] = &error.problems[..] else {
        panic!("{config}\n{error}");
    };
    problem.clone()
}

fn environment(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let mut surroundings = Surroundings::new();
    for (name, value) in variables {
        surroundings = surroundings.variable(name, value);
    }
    surroundings.load("")
}

fn environment_problem(name: &str, value: &str) -> Problem {
    let error = environment(&[(name, value)]).unwrap_err();
    let [problem] = &error.problems[..] else {
        panic!("{error}");
    };
    problem.clone()
}
