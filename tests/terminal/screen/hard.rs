//! Sequences that are hard to restore, cut at every byte.

use peerbus::protocol::TtySize;
use peerbus::screen::Screen;

use crate::harness::reference::Reference;
use crate::screen::whole::compare;

const SMALL: TtySize = TtySize { cols: 20, rows: 6 };

fn at_every_byte(name: &str, raw: &str) {
    let tally = compare(name, raw.as_bytes(), SMALL, 0..=raw.len());
    assert!(tally.differences.is_empty(), "{:#?}", &tally.differences[..tally.differences.len().min(5)]);
}

macro_rules! hard {
    ($($name:ident: $raw:expr;)*) => { $(
        #[test]
        fn $name() {
            at_every_byte(stringify!($name), $raw);
        }
    )* };
}

hard! {
    plain_text: "one\r\ntwo\tthree\r\n\r\nfour";
    scrolling: "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9";
    lines_that_go_on: "a line that is much longer than the screen is wide, so it wraps again and again and scrolls";
    behind_the_last_column: "12345678901234567890\x1b[31m\x1b[1mX\x1b[3;1H12345678901234567890\x1b7\x1b[HY0\x1b8Z";
    wide_characters: "漢字かな交じり文が幅を超えて続くとき 漢\x1b[2;3HX\x1b[1;4HY\x1b[1;1H\x1b[2X";
    halves_of_wide_characters: "漢字漢字漢字漢字漢字\x1b[1;2H\x1b[K\x1b[2;1H漢字\x1b[2;2H\x1b[1P\x1b[3;1H漢字\x1b[3;1H\x1b[@\x1b[4;18H漢\x1b[4;18H\x1b[@\x1b[5;1H字\x1b[5;1H\x1b[P";
    combining: "e\u{301}a\u{308}\u{323} \u{1f469}\u{200d}\u{1f469} \x1b[1;19Hxy\u{301}\u{302}z\u{301}";
    emoji: "🎉👍🏽🇩🇪 end of line 🎉🎉🎉🎉";
    attributes: "\x1b[1mb\x1b[2md\x1b[22;3mi\x1b[4mu\x1b[21mU\x1b[4:3mc\x1b[4:4md\x1b[4:5md\x1b[58:5:9mx\x1b[58:2::1:2:3my\x1b[59;7mr\x1b[8mh\x1b[9ms\x1b[0mn";
    colors: "\x1b[31ma\x1b[97;44mb\x1b[38;5;200;48;5;17mc\x1b[38;2;1;2;3;48;2;4;5;6md\x1b[39;49me\x1b[100mf\x1b[K\r\n\x1b[2J";
    erased_with_a_background: "\x1b[44m\x1b[2J\x1b[H\x1b[41mtext\x1b[K\x1b[3;3H\x1b[42m\x1b[5X\x1b[45m\x1b[J\x1b[46m\x1bM\x1bM\x1b[L\x1b[2P\x1b[3@";
    margins: "1\r\n2\r\n3\r\n4\r\n5\r\n6\x1b[2;4r\x1b[4;1H\n\n\x1b[2;1H\x1bM\x1b[?6h\x1b[2;2HX\x1b[1;1HY\x1b[?6l\x1b[6;1H\nZ\x1b[r";
    origin_and_saved: "\x1b[3;5r\x1b[?6h\x1b[2;3H\x1b7\x1b[1;1Ha\x1b8b\x1b[?6l\x1b8c";
    tab_stops: "\x1b[3g\x1b[1;4H\x1bH\x1b[1;9H\x1bH\ra\tb\tc\td\x1b[1;4H\x1b[g\r\n\tx\x1b[3g\r\n\ty";
    line_drawing: "\x1b(0lqqk\x1b(B\r\n\x1b)0\x0eqx\x0fqx\x0e\x1b7\x0f\x1b[3;3H\x1b*0\x1b+0\x1b8q";
    insert_and_no_wrap: "abcdef\x1b[1;3H\x1b[4hXY漢\x1b[4l\x1b[?7l\x1b[2;15H1234567890\x1b[?7h1234567890";
    repeated: "ab\x1b[5b\x1b[44m\x1b[3b\x1b[H\x1b[2J\x1b[3b";
    alternate_screen: "primary\x1b[31m\x1b[3;3Hred\x1b[?1049h\x1b[H\x1b[2Jalternate\x1b7\x1b[32m\x1b[5;5H green\x1b8back\x1b[?1049lagain";
    alternate_without_clearing: "one\x1b[?1049htwo\x1b[?1049lthree\x1b[?1049h\x1b[?1049lfour\x1b[41m\x1b[?1049hfive";
    modes: "\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h\x1b[?1000h\x1b[?1006h\x1b[?1002h\x1b[?25l\x1b[?1005h\x1b[?1002l\x1b[?1007l\x1b[20hx\ny\x1b[?1l\x1b>\x1b[?1003h\x1b[?1006l\x1b[?25h\x1b[?12h";
    cursor_shapes: "\x1b[2 q\x1b[5 q\x1b[4 q\x1b[0 q\x1b[3 q";
    titles: "\x1b]2;first\x07\x1b[22;0t\x1b]0;zweiter ü\x1b\\\x1b[22t\x1b]2;third;with;more\x07\x1b[23t\x1b[23;0t\x1b[23t";
    links: "\x1b]8;;http://example.org/a;b\x1b\\link\x1b]8;id=x;http://example.org/\x1b\\other\x1b]8;;\x1b\\none";
    palette: "\x1b]4;1;rgb:ff/00/00;2;#00ff00\x07\x1b]10;#111111;#222222;#333333\x07\x1b]104;1\x07\x1b]111\x07x";
    keyboards: "\x1b[=2;2u\x1b[>1u\x1b[>5ua\x1b[?1049h\x1b[>3u\x1b[=1;3ub\x1b[<1u\x1b[?1049l\x1b[<u\x1b[=8u\x1b[<9uc";
    aligned: "E\x1b#8\x1b[2;2H\x1b[K";
    cancelled: "a\x1b[31\x18b\x1b[3\x1b[32mc\x1b]2;x\x18d\x1bP$q\x1ae\x1b_app\x1b\\f\x1b^pm\x1b\\g\x1bXsos\x1b\\h";
    controls_within: "ab\x1b[2\n;\r3Hc\x1b[\x0831md\x1b\n7e\x1b]2;t\nitle\x07";
    redraw_in_one: "\x1b[?2026hone\x1b[2;1Htwo\x1b[?2026lthree\x1b[?2026h\x1b[?2026h";
    reset: "\x1b[31mred\x1b[?1049h\x1b[2;4r\x1b[?6h\x1b(0alt\x1b]2;t\x07\x1bcafter\x1b[5b";
    questions: "a\x1b[6nb\x1b[c\x1b[?2026$p\x1b]11;?\x07c\x1b[18t\x05d";
    long_lines_moved_down: "12345678901234567890123\x1b[1;1H\x1bM\x1bM\x1bM\x1bM\x1bM";
    last_row_filled: "\x1b[6;1H12345678901234567890\x1b[31mX\x1b[6;20HY\x1b[A\x1b[6;20H漢";
    leading_spacer: "1234567890123456789漢\x1b[1;20H\x1b[31mz\x1b[3;1H1234567890123456789漢\x1b[4;1H\x1b[44m\x1b[2X";
}

/// Bytes that are no UTF-8, and those that C1 controls would be.
#[test]
fn raw_bytes() {
    let all: Vec<u8> = (0..=255_u8).filter(|byte| *byte != 0x1b).collect();
    let raw =
        [&all[..], b"\xe6\xbc", b"\xa2\xe6", b"\x1b[31m\xf0\x9f\x8e", b"\x89\xc2\x9b31mx\xc2\xc2\x9b5nx"]
            .concat();
    let tally = compare("raw bytes", &raw, SMALL, 0..=raw.len());
    assert!(tally.differences.is_empty(), "{:#?}", &tally.differences[..tally.differences.len().min(5)]);
}

/// After another size too the same is shown, as far as a terminal that was resized itself shows it.
#[test]
fn resized() {
    let raw = "\x1b[31mone\r\n\x1b[2;4rtwo 漢字漢字\x1b7\x1b[3;19Hend\x1b[?1049h\x1b[4;15Halternate";
    let sizes = [(10, 3), (40, 12), (2, 1), (20, 6)].map(|(cols, rows)| TtySize { cols, rows });
    for size in sizes {
        let (mut screen, mut whole) = (Screen::new(SMALL), Reference::new(SMALL));
        screen.feed(raw.as_bytes());
        whole.feed(raw.as_bytes());
        screen.resize(size);
        whole.resize(size);
        let mut restored = Reference::new(size);
        restored.feed(&screen.snapshot());
        let (whole, restored) = (whole.into_state(), restored.into_state());
        assert_eq!(whole.seen(), restored.seen(), "{size}: {:?}", whole.difference(&restored));
    }
}

/// What a program has made of a terminal is put away: it is as one that was never used.
#[test]
fn left() {
    let raw = "\x1b[31;44m\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002h\x1b[?1006h\x1b[?25l\x1b[?7l\x1b[4h\x1b[2;4r\x1b[?6h\x1b(0\x0e\
               \x1b[>5u\x1b[5 q\x1b]10;#123456\x07\x1b]4;7;#123456\x07\x1b[?1049h\x1b[>1ufull\x1b]8;;http://a/\x07\x1b[3";
    let (mut screen, mut used) = (Screen::new(SMALL), Reference::new(SMALL));
    screen.feed(raw.as_bytes());
    used.feed(raw.as_bytes());
    used.feed(&screen.leave());
    let mut clean = Reference::new(SMALL);
    for terminal in [&mut used, &mut clean] {
        terminal.feed(b"\x1b[H\x1b[2J\x1b7next q\r\n\tx");
    }
    let (used, clean) = (used.into_state(), clean.into_state());
    assert_eq!(used.difference(&clean), None);
}
