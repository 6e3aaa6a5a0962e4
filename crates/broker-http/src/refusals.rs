//! How many requests were refused, by the code that they were told.

use std::collections::BTreeMap;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use parking_lot::Mutex;

use crate::problem::{Problem, Refused};
use crate::state::State;

/// The code of a defect that is not told as a problem.
const DEFECT: &str = "internal-error";
/// Codes that are the broker's own trouble. They are told from the start on: an alert sees no increase in what was not there.
const OWN_TROUBLE: [&str; 5] =
    [DEFECT, "insufficient-storage", "log-damaged", "log-unavailable", "overloaded"];

/// Refusals since the start, by code. Codes are words of the program, so there are not many.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<BTreeMap<&'static str, u64>>);

impl Default for Refusals {
    fn default() -> Self {
        Refusals(Mutex::new(OWN_TROUBLE.map(|code| (code, 0)).into()))
    }
}

impl Refusals {
    /// A request was refused.
    pub(crate) fn count(&self, code: &'static str) {
        *self.0.lock().entry(code).or_default() += 1;
    }

    /// The counts now.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().clone()
    }
}

/// Counts what is refused behind this.
pub(crate) async fn count(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let state = request.app_data::<web::Data<State>>().cloned().expect("the app has a state");
    let answered = next.call(request).await;
    let code = match &answered {
        Ok(response) => response.response().extensions().get::<Refused>().map(|refused| refused.0),
        Err(error) => Some(error.as_error::<Problem>().map_or(DEFECT, Problem::code)),
    };
    if let Some(code) = code {
        state.refusals.count(code);
    }
    answered
}
