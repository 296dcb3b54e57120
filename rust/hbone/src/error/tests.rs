use super::*;

#[test]
fn every_code_survives_the_wire() {
    for value in (0..=20).chain([u32::MAX]) {
        assert_eq!(u32::from(ErrorCode::from(value)), value);
    }
    assert_eq!(ErrorCode::from(0xb), ErrorCode::EnhanceYourCalm);
    assert_eq!(ErrorCode::from(0xd), ErrorCode::Http11Required);
    assert_eq!(ErrorCode::from(0xe), ErrorCode::Unknown(0xe));
}

#[test]
fn named_codes_stand_at_their_own_number() {
    for (at, (code, _)) in ErrorCode::NAMED.iter().enumerate() {
        assert_eq!(u32::from(*code) as usize, at);
    }
}

#[test]
fn an_error_is_one_sentence_with_fault_and_fact() {
    let error = Error::flood(Flood::Ping);
    assert_eq!(
        error.to_string(),
        "http/2 peer misbehaved: PING flood (ENHANCE_YOUR_CALM)"
    );
    let error = Error {
        fault: Fault::Local,
        code: ErrorCode::Unknown(0x99),
        reason: Reason::FlowControl,
    };
    assert_eq!(
        error.to_string(),
        "http/2 gave up: data past the flow-control window (code 0x99)"
    );
}
