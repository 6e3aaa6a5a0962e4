use super::*;

const DOCUMENTED: [Param; 3] = [Param::Once("once"), Param::Repeatable("many"), Param::Once("flag")];

fn parse(text: &str) -> Result<Query, Problem> {
    Query::parse_text(text, &DOCUMENTED)
}

#[test]
fn a_query_is_decoded_as_a_form() {
    for (text, expected) in [
        ("once=a", "a"),
        ("once=", ""),
        ("once", ""),
        ("once=a+b", "a b"),
        ("once=a%2Bb", "a+b"),
        ("once=a%20b", "a b"),
        ("once=a=b", "a=b"),
        ("once=%26%3D", "&="),
        ("once=%C3%A9+%C3%A9", "é é"),
        ("on%63e=a", "a"),
        ("&&once=a&", "a"),
        ("once=%252B", "%2B"),
    ] {
        assert_eq!(parse(text).unwrap().get("once"), Some(expected), "{text}");
    }
    assert_eq!(parse("").unwrap().get("once"), None);
}

#[test]
fn what_is_repeatable_keeps_its_order() {
    let query = parse("many=b&once=x&many=a&many=").unwrap();
    assert_eq!(query.all("many").collect::<Vec<_>>(), ["b", "a", ""]);
    assert_eq!(query.all("once").collect::<Vec<_>>(), ["x"]);
}

#[test]
fn typing_errors_never_read_as_no_parameter() {
    for (text, code, field) in [
        ("onc=a", "unknown-parameter", "onc"),
        ("Once=a", "unknown-parameter", "Once"),
        ("=a", "unknown-parameter", ""),
        ("once[]=a", "unknown-parameter", "once[]"),
        ("once=a;many=b&x=c", "unknown-parameter", "x"),
        ("once=a&once=a", "repeated-parameter", "once"),
        ("once=a&many=b&on%63e=c", "repeated-parameter", "once"),
        ("once=%", "malformed-escape", "once"),
        ("once=%2", "malformed-escape", "once"),
        ("once=%+1", "malformed-escape", "once"),
        ("many=a&many=%FF", "malformed-escape", "many"),
        ("%ff=a", "malformed-escape", "%ff"),
    ] {
        let problem = parse(text).unwrap_err();
        assert_eq!(problem.parts(), (400, code, Some(field), None), "{text}");
    }
    let problem = parse("onc=a").unwrap_err();
    assert!(problem.to_string().contains("once, many, flag"), "{problem}");
    assert!(Query::parse_text("a=b", &[]).unwrap_err().to_string().contains("takes none"));
}

#[test]
fn a_flag_is_true_or_false() {
    assert!(parse("flag=true").unwrap().flag("flag").unwrap());
    assert!(!parse("flag=false").unwrap().flag("flag").unwrap());
    assert!(!parse("").unwrap().flag("flag").unwrap());
    for text in ["flag=", "flag", "flag=1", "flag=TRUE", "flag=yes"] {
        let problem = parse(text).unwrap().flag("flag").unwrap_err();
        assert_eq!(problem.parts(), (400, "invalid-parameter", Some("flag"), None), "{text}");
    }
}

#[test]
fn a_query_has_a_bound() {
    let longest = format!("once={}", "x".repeat(QUERY_BYTES_MAX - 5));
    assert!(parse(&longest).is_ok());
    assert_eq!(parse(&format!("{longest}x")).unwrap_err().parts(), (414, "query-too-long", None, None));
    // The framework reads no longer target, and says nothing of why.
    const { assert!(QUERY_BYTES_MAX <= 63 * event_log::limits::KIB) };
}
