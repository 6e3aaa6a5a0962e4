//! One path and its methods. What HTTP asks of every resource is added here once: HEAD beside GET, OPTIONS, and 405 with
//! `Allow` for the rest.

use std::future::ready;
use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::dev::{AppService, HttpServiceFactory, ServiceRequest};
use actix_web::http::header::ALLOW;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, ResponseError, guard, web,
};

use crate::caller::Caller;
use crate::problem::Problem;

/// What a caller needs for a method, where there is authentication. Each method says it, so that none is open because
/// nobody thought of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// What its token grants for the topics that it names: the handler asks its [`Caller`].
    Grant,
    Admin,
}

/// A resource under construction; it is a service like any other.
pub(crate) struct Endpoint {
    resource: Resource,
    allowed: Vec<(Method, Needs)>,
}

impl Endpoint {
    pub(crate) fn at(path: &str) -> Self {
        Endpoint { resource: web::resource(path), allowed: Vec::new() }
    }

    /// What GET does, and HEAD with it: the body is left out on the way to the socket.
    pub(crate) fn get<F, Args>(self, needs: Needs, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let route = web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler);
        self.with(needs, route, &[Method::GET, Method::HEAD])
    }

    pub(crate) fn post<F, Args>(self, needs: Needs, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(needs, web::post().to(handler), &[Method::POST])
    }

    pub(crate) fn put<F, Args>(self, needs: Needs, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(needs, web::put().to(handler), &[Method::PUT])
    }

    pub(crate) fn delete<F, Args>(self, needs: Needs, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.with(needs, web::delete().to(handler), &[Method::DELETE])
    }

    fn with(mut self, needs: Needs, route: actix_web::Route, methods: &[Method]) -> Self {
        self.allowed.extend(methods.iter().map(|method| (method.clone(), needs)));
        Endpoint { resource: self.resource.route(route), allowed: self.allowed }
    }
}

impl HttpServiceFactory for Endpoint {
    fn register(mut self, config: &mut AppService) {
        self.allowed.push((Method::OPTIONS, Needs::Nothing));
        let allow = self.allowed.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ");
        let answer = HttpAllow { allow: allow.clone() };
        let options = web::method(Method::OPTIONS).to(move || ready(answer.options()));
        let refusal = HttpAllow { allow };
        let other = web::route().to(move |request: HttpRequest| ready(refusal.refuse(&request)));
        let for_administrators: Rc<[Method]> = self
            .allowed
            .into_iter()
            .filter(|(_, needs)| *needs == Needs::Admin)
            .map(|(method, _)| method)
            .collect();
        let judge = from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
            let is_for_administrators = for_administrators.contains(request.method());
            async move {
                let judged = match is_for_administrators {
                    true => Caller::of(request.request()).admin(),
                    false => Ok(()),
                };
                match judged {
                    Ok(()) => next.call(request).await,
                    Err(problem) => Ok(request.into_response(problem.error_response())),
                }
            }
        });
        self.resource.route(options).default_service(other).wrap(judge).register(config);
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
