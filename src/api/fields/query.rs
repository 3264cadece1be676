//! The query of a request.

use axum::http::Uri;

use crate::api::problem::{Invalid, Problem};

/// The parameters of a query, each to be taken once.
pub struct Query {
    parameters: Vec<(String, String)>,
    errors: Vec<Invalid>,
}

impl Query {
    /// The parameters of a request's query.
    pub fn of(uri: &Uri) -> Query {
        let parameters = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        Query {
            parameters,
            errors: Vec::new(),
        }
    }

    /// Takes a parameter as it is. One that is given twice is refused.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let (found, others) = std::mem::take(&mut self.parameters)
            .into_iter()
            .partition::<Vec<_>, _>(|(key, _)| key == name);
        self.parameters = others;
        if found.len() > 1 {
            self.refuse(name, "is given more than once", "once");
        }
        found.into_iter().next().map(|(_, value)| value)
    }

    /// Takes a parameter that `read` understands.
    pub fn read<T>(
        &mut self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.take(name)?;
        let value = read(&text);
        if value.is_none() {
            self.refuse(name, "is not valid", allowed);
        }
        value
    }

    /// Notes that something is wrong with a parameter.
    pub fn refuse(&mut self, name: &str, detail: impl Into<String>, allowed: impl Into<String>) {
        self.errors.push(Invalid::parameter(name, detail, allowed));
    }

    /// Refuses whatever was not taken, and tells all that is wrong.
    ///
    /// # Errors
    ///
    /// 422 with every mistake.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.parameters) {
            let shown: String = name.chars().take(100).collect();
            self.refuse(&shown, "there is no such parameter", "see /docs");
        }
        match self.errors.is_empty() {
            true => Ok(()),
            false => Err(Problem::invalid(self.errors)),
        }
    }
}
