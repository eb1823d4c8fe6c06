use super::*;
#[test]
fn hexadecimal() {
    assert_eq!(hex(&[0, 0xaf, 0xff]), "00afff");
    assert_eq!(unhex("00aFff"), Some(vec![0, 0xaf, 0xff]));
    assert_eq!(unhex(""), Some(vec![]));
    for text in ["0", "0g", "+1", "éé"] {
        assert_eq!(unhex(text), None, "{text}");
    }
}
