//! Pages that are part of the program: read without a token, and checked for news by their entity tag.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, EntityTag, Header, IfNoneMatch, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::endpoint::Endpoint;
use crate::endpoint::Needs::Nothing;
use crate::options::StaticPage;

/// Pages get nothing from elsewhere and run nothing that stands in their text, and nobody may frame them.
const PAGE_POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// A browser asks each time whether what it has is still good, so that a new version of the program is seen at once.
const CACHED: &str = "no-cache";

pub(crate) fn serve(config: &mut web::ServiceConfig, page: StaticPage) {
    let tag = EntityTag::new_strong(blake3::hash(page.body).to_hex()[..16].to_owned());
    let answer = move |request: HttpRequest| std::future::ready(answer(&request, &page, &tag));
    config.service(Endpoint::at(page.path).get(Nothing, answer));
}

fn answer(request: &HttpRequest, page: &StaticPage, tag: &EntityTag) -> HttpResponse {
    let mut response = match is_known(request, tag) {
        true => HttpResponse::NotModified(),
        false => HttpResponse::Ok(),
    };
    response
        .insert_header((ETAG, tag.clone()))
        .insert_header((CACHE_CONTROL, CACHED))
        .insert_header((CONTENT_SECURITY_POLICY, PAGE_POLICY))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    match is_known(request, tag) {
        true => response.finish(),
        false => response.content_type(page.content_type).body(page.body),
    }
}

/// Whether the browser has these very bytes. A header that cannot be read asks nothing.
fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Ok(IfNoneMatch::Any) => true,
        Err(_) => false,
    }
}
