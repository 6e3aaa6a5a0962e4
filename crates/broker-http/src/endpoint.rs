//! One path and its methods. What HTTP asks of every resource is added here once: HEAD beside GET, OPTIONS, and 405 with
//! `Allow` for the rest.

use std::future::ready;

use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::http::header::ALLOW;
use actix_web::http::{Method, StatusCode};
use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, ResponseError, guard, web,
};

use crate::problem::Problem;

/// A resource under construction; it is a service like any other.
pub(crate) struct Endpoint {
    resource: Resource,
    allowed: Vec<&'static str>,
}

impl Endpoint {
    pub(crate) fn at(path: &str) -> Self {
        Endpoint { resource: web::resource(path), allowed: Vec::new() }
    }

    /// What GET does, and HEAD with it: the body is left out on the way to the socket.
    pub(crate) fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let route = web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler);
        self.with(route, &["GET", "HEAD"])
    }

    pub(crate) fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(web::post().to(handler), &["POST"])
    }

    pub(crate) fn put<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(web::put().to(handler), &["PUT"])
    }

    pub(crate) fn delete<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(web::delete().to(handler), &["DELETE"])
    }

    fn with(mut self, route: actix_web::Route, methods: &[&'static str]) -> Self {
        self.allowed.extend(methods);
        Endpoint { resource: self.resource.route(route), allowed: self.allowed }
    }
}

impl HttpServiceFactory for Endpoint {
    fn register(mut self, config: &mut AppService) {
        self.allowed.push("OPTIONS");
        let allow = self.allowed.join(", ");
        let answer = HttpAllow { allow: allow.clone() };
        let options = web::method(Method::OPTIONS).to(move || ready(answer.options()));
        let refusal = HttpAllow { allow };
        let other = web::route().to(move |request: HttpRequest| ready(refusal.refuse(&request)));
        self.resource.route(options).default_service(other).register(config);
    }
}

/// The answers that name what is allowed.
#[derive(Clone)]
struct HttpAllow {
    allow: String,
}

impl HttpAllow {
    fn options(&self) -> HttpResponse {
        HttpResponse::NoContent().insert_header((ALLOW, self.allow.as_str())).finish()
    }

    fn refuse(&self, request: &HttpRequest) -> HttpResponse {
        let detail = format!("{} is not allowed here; allowed are {}", request.method(), self.allow);
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
        let mut response = problem.error_response();
        if let Ok(allow) = self.allow.parse() {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}
