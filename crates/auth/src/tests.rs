use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event_log::limits::TOKEN_BYTES_MAX;
use event_log::{Pattern, Timestamp, Topic};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::*;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text.to_owned()).unwrap()
}

fn seconds_from_now(seconds: i64) -> Value {
    json!(NOW.as_micros() as i64 / 1_000_000 + seconds)
}

/// Signs any header and claims, as an issuer may whose ideas differ from ours.
fn signed(header: Value, claims: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(&header.to_string()), part(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn judged(rules: Rules, claims: Value) -> Result<Identity, Refused> {
    let token = signed(json!({ "alg": "HS256", "typ": "JWT" }), &claims.to_string());
    Verifier::new(rules, vec![Key::from_secret(SECRET).unwrap()]).verify(token.as_bytes(), NOW)
}

fn rules() -> Rules {
    Rules { clock_skew: Duration::ZERO, ..Rules::default() }
}

fn new_token(grants: Grants) -> NewToken {
    NewToken {
        subject: Some("alice".to_owned()),
        token_id: Some("t1".to_owned()),
        audience: None,
        issuer: None,
        issued: NOW,
        expires: Timestamp::from_micros(NOW.as_micros() + 60_000_000),
        grants,
    }
}

#[test]
fn what_is_generated_signs_tokens_that_are_good_with_its_own_key_alone() {
    let grants =
        Grants { publish: vec![pattern("a.b")], subscribe: vec![pattern("a.*"), pattern("c")], admin: true };
    let made: Vec<_> = Algorithm::ALL
        .into_iter()
        .map(|algorithm| {
            let generated = generate(algorithm).unwrap();
            let signing = SigningKey::from_file(generated.private.as_bytes()).unwrap();
            assert_eq!(signing.algorithm(), algorithm);
            let public = generated.public.unwrap_or(generated.private);
            let keys = Key::from_file(public.as_bytes()).unwrap();
            assert_eq!(keys.iter().map(Key::algorithm).collect::<Vec<_>>(), [algorithm]);
            (signing.sign(&new_token(grants.clone())).unwrap(), Verifier::new(rules(), keys))
        })
        .collect();
    for (i, (token, _)) in made.iter().enumerate() {
        for (j, (_, verifier)) in made.iter().enumerate() {
            let judged = verifier.verify(token.as_bytes(), NOW);
            if i != j {
                assert_eq!(judged, Err(Refused::UnknownKey));
                continue;
            }
            let identity = judged.unwrap();
            assert_eq!(identity.grants, grants);
            assert_eq!(
                (identity.subject.as_deref(), identity.token_id.as_deref()),
                (Some("alice"), Some("t1"))
            );
            assert_eq!(
                (identity.issued, identity.expires.as_micros()),
                (Some(NOW), NOW.as_micros() + 60_000_000)
            );
        }
    }
}

#[test]
fn two_keys_of_an_algorithm_do_not_verify_for_each_other() {
    for algorithm in [Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa] {
        let (one, other) = (generate(algorithm).unwrap(), generate(algorithm).unwrap());
        let token =
            SigningKey::from_file(one.private.as_bytes()).unwrap().sign(&new_token(Grants::default()));
        let keys = Key::from_file(other.public.unwrap_or(other.private).as_bytes()).unwrap();
        let refused = Verifier::new(rules(), keys).verify(token.unwrap().as_bytes(), NOW);
        assert_eq!(refused, Err(Refused::Signature));
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    let generated = generate(Algorithm::Es256).unwrap();
    let public = generated.public.unwrap();
    assert!(Key::from_secret(public.as_bytes()).is_err());
    assert!(Key::from_file(generated.private.as_bytes()).is_err(), "a private key is not for verifying");
    // Signed with the text of the public key as a secret.
    let key = jsonwebtoken::EncodingKey::from_secret(public.as_bytes());
    let claims = json!({ "exp": seconds_from_now(60) });
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let verifier = Verifier::new(rules(), Key::from_file(public.as_bytes()).unwrap());
    assert_eq!(verifier.verify(token.as_bytes(), NOW), Err(Refused::UnknownKey));
}

#[test]
fn a_token_is_judged_by_its_times() {
    let at = |exp: i64, nbf: i64, skew: u64| {
        let rules = Rules { clock_skew: Duration::from_secs(skew), ..Rules::default() };
        judged(rules, json!({ "exp": seconds_from_now(exp), "nbf": seconds_from_now(nbf) })).map(drop)
    };
    assert_eq!(at(1, 0, 0), Ok(()));
    assert_eq!(at(0, 0, 0), Err(Refused::Expired), "at exp it is over");
    assert_eq!(at(-1, -5, 0), Err(Refused::Expired));
    assert_eq!(at(-1, -5, 2), Ok(()));
    assert_eq!(at(-2, -5, 2), Err(Refused::Expired));
    assert_eq!(at(9, 1, 0), Err(Refused::NotYet));
    assert_eq!(at(9, 1, 1), Ok(()));
    assert_eq!(at(9, 2, 1), Err(Refused::NotYet));
    let fraction = NOW.as_micros() as f64 / 1e6 + 0.5;
    assert_eq!(
        judged(rules(), json!({ "exp": fraction })).unwrap().expires.as_micros(),
        NOW.as_micros() + 500_000
    );
    assert_eq!(judged(rules(), json!({ "sub": "a" })), Err(Refused::Missing("exp")));
    for exp in [json!("1900000000"), json!(-1), json!(1e18), json!(true)] {
        let refused = judged(rules(), json!({ "exp": exp })).unwrap_err();
        assert_eq!(refused.claim(), Some("exp"), "{exp}: {refused}");
        let refused = judged(rules(), json!({ "exp": seconds_from_now(9), "nbf": exp })).unwrap_err();
        assert_eq!(refused.claim(), Some("nbf"), "{exp}: {refused}");
    }
}

#[test]
fn a_token_is_judged_by_who_made_it_and_for_whom() {
    let with = |audiences: &[&str], issuers: &[&str], claims: Value| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let rules = Rules { audiences: texts(audiences), issuers: texts(issuers), ..rules() };
        let mut all = json!({ "exp": seconds_from_now(9) });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        judged(rules, all).map(drop)
    };
    assert_eq!(with(&[], &[], json!({})), Ok(()));
    assert_eq!(with(&[], &[], json!({ "aud": "x" })), Err(Refused::Audience), "it is for somebody else");
    assert_eq!(with(&["a", "b"], &[], json!({ "aud": "b" })), Ok(()));
    assert_eq!(with(&["a"], &[], json!({ "aud": ["x", "a"] })), Ok(()));
    assert_eq!(with(&["a"], &[], json!({ "aud": ["x"] })), Err(Refused::Audience));
    assert_eq!(with(&["a"], &[], json!({ "aud": [] })), Err(Refused::Audience));
    assert_eq!(with(&["a"], &[], json!({})), Err(Refused::Missing("aud")));
    assert_eq!(with(&["a"], &[], json!({ "aud": null })), Err(Refused::Missing("aud")));
    assert_eq!(with(&["a"], &[], json!({ "aud": 1 })).unwrap_err().claim(), Some("aud"));
    assert_eq!(with(&[], &["i"], json!({ "iss": "i" })), Ok(()));
    assert_eq!(with(&[], &["i"], json!({ "iss": "j" })), Err(Refused::Issuer));
    assert_eq!(with(&[], &["i"], json!({})), Err(Refused::Missing("iss")));
    assert_eq!(with(&[], &["i"], json!({ "iss": ["i"] })).unwrap_err().claim(), Some("iss"));
}

#[test]
fn names_and_grants_that_cannot_be_read_are_refused_and_named() {
    let with = |claim: &str, value: Value| {
        let mut all = json!({ "exp": seconds_from_now(9) });
        all[claim] = value;
        judged(rules(), all).unwrap_err().claim()
    };
    for name in [json!(""), json!(7), json!("a\nb"), json!("a\u{0}"), json!("x".repeat(257))] {
        assert_eq!(with("sub", name.clone()), Some("sub"));
        assert_eq!(with("jti", name), Some("jti"));
    }
    assert_eq!(with("perennial", json!({ "publish": "a" })), Some("perennial"));
    assert_eq!(with("perennial", json!({ "subscribes": ["a"] })), Some("perennial"));
    assert_eq!(with("perennial", json!({ "admin": "true" })), Some("perennial"));
    assert_eq!(with("perennial", json!({ "publish": ["a..b"] })), Some("perennial.publish"));
    assert_eq!(with("perennial", json!({ "subscribe": ["**.a"] })), Some("perennial.subscribe"));
    for exp in [json!([1]), json!({})] {
        assert!(judged(rules(), json!({ "exp": exp })).is_err(), "{exp}");
    }
    let nothing = judged(rules(), json!({ "exp": seconds_from_now(9) })).unwrap();
    assert_eq!(nothing.grants, Grants::default());
    let verify = |claims: &str| {
        let token = signed(json!({ "alg": "HS256" }), claims);
        Verifier::new(rules(), vec![Key::from_secret(SECRET).unwrap()]).verify(token.as_bytes(), NOW)
    };
    assert_eq!(verify(r#"{"exp":1900000000,"exp":1}"#).unwrap_err().claim(), Some("payload"), "said twice");
    assert!(verify("[]").is_err() && verify("").is_err() && verify("null").is_err());
}

#[test]
fn a_header_that_asks_for_more_is_refused() {
    let claims = json!({ "exp": seconds_from_now(9) }).to_string();
    let verify = |header: Value| {
        let token = signed(header, &claims);
        Verifier::new(rules(), vec![Key::from_secret(SECRET).unwrap()])
            .verify(token.as_bytes(), NOW)
            .map(drop)
    };
    for header in [
        json!({ "alg": "HS256" }),
        json!({ "alg": "HS256", "typ": "jwt" }),
        json!({ "alg": "HS256", "typ": "at+jwt", "kid": "any" }),
    ] {
        assert_eq!(verify(header), Ok(()));
    }
    for header in [
        json!({ "alg": "HS256", "crit": ["exp"] }),
        json!({ "alg": "HS256", "crit": [] }),
        json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
        json!({ "alg": "HS256", "zip": "DEF" }),
        json!({ "alg": "HS256", "typ": "secevent+jwt" }),
    ] {
        assert!(matches!(verify(header.clone()), Err(Refused::Header(_))), "{header}");
    }
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "None" }),
        json!({ "alg": "" }),
        json!({ "alg": "hs256" }),
        json!({}),
        json!([]),
    ] {
        assert_eq!(verify(header.clone()), Err(Refused::Malformed), "{header}");
    }
    for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256"] {
        assert_eq!(verify(json!({ "alg": alg })), Err(Refused::UnknownKey), "{alg}");
    }
}

#[test]
fn no_byte_of_a_token_can_be_changed_or_left_out() {
    let token = signed(json!({ "alg": "HS256" }), &json!({ "exp": seconds_from_now(9) }).to_string());
    let verifier = Verifier::new(rules(), vec![Key::from_secret(SECRET).unwrap()]);
    assert!(verifier.verify(token.as_bytes(), NOW).is_ok());
    for place in 0..token.len() {
        assert!(verifier.verify(&token.as_bytes()[..place], NOW).is_err(), "cut off at {place}");
        for byte in [b'A', b'B', b'.', b'-', b'=', b' ', 0, 0xff] {
            let mut changed = token.clone().into_bytes();
            if std::mem::replace(&mut changed[place], byte) != byte {
                assert!(verifier.verify(&changed, NOW).is_err(), "{byte} at {place}");
            }
        }
    }
    for text in ["", ".", "..", "...", "a.b.c", "a.b.c.d"] {
        assert!(verifier.verify(text.as_bytes(), NOW).is_err(), "{text:?}");
    }
    for more in [format!("{token}."), format!("x.{token}"), format!("{token}A"), format!("{token}=")] {
        assert!(verifier.verify(more.as_bytes(), NOW).is_err());
    }
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    assert!(matches!(verifier.verify(long.as_bytes(), NOW), Err(Refused::TooLong { .. })));
}

#[test]
fn keys_of_a_set_are_chosen_by_their_names_and_replaced_together() {
    let jwk = |algorithm: Algorithm, id: Option<&str>| {
        let generated = generate(algorithm).unwrap();
        let signing = SigningKey::from_file(generated.private.as_bytes()).unwrap();
        let key = Key::from_file(generated.public.unwrap().as_bytes()).unwrap().remove(0);
        let mut jwk =
            serde_json::to_value(jsonwebtoken::jwk::Jwk::from_decoding_key(&key.decoding, None).unwrap())
                .unwrap();
        if let Some(id) = id {
            jwk["kid"] = json!(id);
        }
        (signing.sign(&new_token(Grants::default())).unwrap(), jwk)
    };
    let (es, es_jwk) = jwk(Algorithm::Es256, Some("one"));
    let (ed, ed_jwk) = jwk(Algorithm::EdDsa, None);
    let (rs, rs_jwk) = jwk(Algorithm::Rs256, Some("three"));
    let (other, other_jwk) = jwk(Algorithm::Es256, Some("four"));
    let set = json!({ "keys": [es_jwk, ed_jwk, rs_jwk, { "kty": "new" }, 7] }).to_string();
    let verifier = Verifier::new(rules(), Vec::new());
    assert_eq!(verifier.verify(es.as_bytes(), NOW), Err(Refused::UnknownKey));
    verifier.await_keys();
    assert_eq!(verifier.verify(es.as_bytes(), NOW), Err(Refused::KeysAwaited));
    let before = verifier.version();
    verifier.replace_fetched(Key::from_jwks(set.as_bytes()).unwrap());
    assert_ne!(verifier.version(), before);
    for token in [&es, &ed, &rs] {
        assert!(verifier.verify(token.as_bytes(), NOW).is_ok());
    }
    assert_eq!(verifier.verify(other.as_bytes(), NOW), Err(Refused::Signature));
    verifier.replace_fetched(Key::from_jwks(json!({ "keys": [other_jwk] }).to_string().as_bytes()).unwrap());
    assert!(verifier.verify(other.as_bytes(), NOW).is_ok());
    assert_eq!(verifier.verify(ed.as_bytes(), NOW), Err(Refused::UnknownKey));

    let with = |field: &str, value: &str| {
        let mut jwk = es_jwk.clone();
        jwk[field] = json!(value);
        Key::from_jwks(json!({ "keys": [jwk] }).to_string().as_bytes())
    };
    assert!(with("alg", "ES256").is_ok() && with("use", "sig").is_ok());
    for (field, value) in
        [("alg", "ES384"), ("alg", "HS256"), ("use", "enc"), ("crv", "P-384"), ("x", "AAAA"), ("y", "!")]
    {
        assert!(with(field, value).is_err(), "{field} {value}");
    }
    let secret = json!({ "keys": [{ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET) }] });
    assert!(Key::from_jwks(secret.to_string().as_bytes()).is_err(), "secrets do not belong in sets");
    for text in ["", "{", "{}", "{\"keys\":[]}", "[]", "{\"keys\":7}"] {
        assert!(Key::from_jwks(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn what_is_too_weak_is_no_key() {
    assert!(Key::from_secret(b"short").is_err());
    assert!(Key::from_file(b"").is_err());
    assert!(Key::from_file(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").is_err());
    let short = json!({ "keys": [{ "kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([0xff; 128]) }] });
    assert!(Key::from_jwks(short.to_string().as_bytes()).is_err(), "1,024 bits");
    let padded = [SECRET, b"\n"].concat();
    let token = signed(json!({ "alg": "HS256" }), &json!({ "exp": seconds_from_now(9) }).to_string());
    let verifier = Verifier::new(rules(), vec![Key::from_secret(&padded).unwrap()]);
    assert!(verifier.verify(token.as_bytes(), NOW).is_ok(), "the line end of a file is no part of a secret");
}

#[test]
fn neither_keys_nor_refusals_show_what_they_were_made_of() {
    let shown =
        format!("{:?} {:?}", Key::from_secret(SECRET).unwrap(), SigningKey::from_file(SECRET).unwrap());
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
    let error = Key::from_secret(b"not-long-enough").unwrap_err();
    assert!(!error.to_string().contains("not-long-enough"), "{error}");
}

#[test]
fn grants_widen_for_nobody() {
    let grants = |subscribe: &[&str], admin| Grants {
        publish: Vec::new(),
        subscribe: subscribe.iter().map(|text| pattern(text)).collect(),
        admin,
    };
    let few = grants(&["a.b", "c.*"], false);
    assert!(few.may_subscribe(&pattern("a.b")) && few.may_subscribe(&pattern("c.*")));
    for wider in ["a.*", "a.**", "**", "*.b", "c.**", "c", "$broker.policies", "$broker.**"] {
        assert!(!few.may_subscribe(&pattern(wider)), "{wider}");
    }
    let together = grants(&["a.*", "a.*.**"], false);
    assert!(!together.may_subscribe(&pattern("a.**")), "several patterns do not cover one together");
    let all = grants(&["**", "$broker.**"], false);
    assert!(all.may_subscribe(&pattern("**")));
    assert!(!all.may_subscribe(&pattern("$broker.**")), "the broker's own topics are for administrators");
    let admin = grants(&[], true);
    assert!(admin.may_subscribe(&pattern("$broker.**")) && !admin.may_subscribe(&pattern("a")));
    let publisher =
        Grants { publish: vec![pattern("**"), pattern("$broker.**")], admin: true, ..Grants::default() };
    assert!(publisher.may_publish(&Topic::parse("a").unwrap()));
    assert!(!publisher.may_publish(&Topic::parse("$broker.policies").unwrap()));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(token in prop::collection::vec(any::<u8>(), 0..300)) {
        let verifier = Verifier::new(rules(), vec![Key::from_secret(SECRET).unwrap()]);
        prop_assert!(verifier.verify(&token, NOW).is_err());
    }

    #[test]
    fn any_claims_are_refused_or_right(exp in any::<f64>(), sub in ".*", more in ".*") {
        let claims = json!({ "exp": exp, "sub": sub, "perennial": { "subscribe": [more] } });
        match judged(rules(), claims) {
            Ok(identity) => {
                prop_assert!(identity.expires > NOW);
                prop_assert_eq!(identity.subject, Some(sub));
                prop_assert_eq!(identity.grants.subscribe[0].as_str(), more);
            }
            Err(refused) => prop_assert!(!refused.to_string().is_empty()),
        }
    }
}
