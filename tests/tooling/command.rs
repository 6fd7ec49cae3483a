//! The `burn-convexity` command as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

use burn_convexity::config::{ConvexitySwitchingConfig, Preset, schema};
use serde_json::{Value, json};

use super::path;

/// Run the command in a folder; its exit code, standard output and standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-convexity"));
    let Output { status, stdout, stderr } = command.args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn check_shows_the_line_and_what_was_meant() {
    let (code, out, err) = run(&path("tests/config/invalid"), &["check", "unknown_key.json", "metric_of_sgd.json"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let expected = "\
error[unknown-key]: unknown key \"treshold\" in detector (gradient_norm_peak); did you mean \"threshold\"?
 --> unknown_key.json:4:5
  |
4 |     \"treshold\": 0.8
  |     ^^^^^^^^^^ help: write \"threshold\"
";
    assert!(out.starts_with(expected), "{out}");
    for part in ["2 |   \"metric\": \"inner\"", "the other value", "2 files checked: 2 problems\n"] {
        assert!(out.contains(part), "{part} in {out}");
    }
}

#[test]
fn check_says_by_its_exit_code_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("latin.json"), b"{ // gr\xfcn\n}").unwrap();
    std::fs::write(at("large.json"), vec![b' '; 5 << 20]).unwrap();
    std::fs::write(at("deep.json"), "[".repeat(100_000)).unwrap();
    std::fs::write(at("train.json"), r#"{ "optimizer": { "windw": 3 }, "a/b": [{}] }"#).unwrap();
    let valid = path("tests/config/valid/full.json").display().to_string();
    for (file, code, words) in [
        (valid.as_str(), 0, "1 file checked: 0 problems"),
        (&at("latin.json"), 1, "the file is not UTF-8 text"),
        (&at("deep.json"), 1, "maximum nesting depth exceeded"),
        (&at("train.json#/optimizer"), 1, "did you mean \"window\"?"),
        (&at("train.json#/a~1b/0"), 0, "0 problems"),
        (&at("train.json#/nowhere"), 1, "there is nothing at /nowhere"),
        (&at("large.json"), 2, "no configuration is larger than 4 MiB"),
        (&at("missing.json"), 2, "cannot read the configuration"),
        (&at("."), 2, "cannot read the configuration"),
        ("/dev/zero", 2, "no configuration is larger"),
    ] {
        let (found, out, err) = run(folder.path(), &["check", file]);
        assert_eq!(found, code, "{file}: {out}{err}");
        assert!(format!("{out}{err}").contains(words), "{file}: {out}{err}");
    }
    let (code, ..) = run(folder.path(), &["check", &at("train.json#/optimizer"), &at("missing.json")]);
    assert_eq!(code, 2);
}

#[test]
fn check_speaks_to_programs() {
    let folder = path("tests/config/invalid");
    let (_, out, _) = run(&folder, &["check", "--format", "json", "unknown_key.json", "no_json.json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    let first = json!({
        "file": "unknown_key.json", "line": 4, "column": 5, "end_line": 4, "end_column": 15,
        "path": "detector.treshold", "code": "unknown-key", "suggestion": "threshold",
        "message": "unknown key \"treshold\" in detector (gradient_norm_peak); did you mean \"threshold\"?",
    });
    assert_eq!(found[0], first);
    assert_eq!(found[1]["code"], "syntax");
    let (_, out, _) = run(&folder, &["check", "--format", "json", "../valid/full.json"]);
    assert_eq!(out, "[]\n");
    let (_, out, _) = run(&folder, &["check", "--format", "github", "out_of_range.json"]);
    assert_eq!(
        out,
        "::error file=out_of_range.json,line=1,col=40,endLine=1,endColumn=41,title=out-of-range::\
         inner.beta_1 must be a number at least 0 and under 1, but is 1\n"
    );
}

#[test]
fn init_writes_what_check_finds_right() {
    for preset in Preset::ALL.map(Preset::name) {
        let folder = tempfile::tempdir().unwrap();
        let (code, out, err) = run(folder.path(), &["init", "--vscode", "--preset", preset, "runs/switching.json"]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(out.lines().count(), 3, "{out}");
        assert_eq!(run(folder.path(), &["check", "runs/switching.json"]).0, 0);
        let written = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let beside: Value = serde_json::from_str(&written("runs/convexity-switching.schema.json")).unwrap();
        assert_eq!(beside, schema().to_value());
        assert!(written("runs/switching.json").contains(r#""$schema": "./convexity-switching.schema.json""#));
        let settings: Value = serde_json::from_str(&written(".vscode/settings.json")).unwrap();
        assert_eq!(settings["json.schemas"][0]["url"], "./runs/convexity-switching.schema.json");
        let (code, _, err) = run(folder.path(), &["init", "runs"]);
        assert!(code == 2 && err.contains("switching.json exists"), "{err}");
        assert_eq!(run(folder.path(), &["init", "--force", "runs"]).0, 0);
        assert_eq!(run(folder.path(), &["init", "new/folder"]).0, 0);
        assert!(folder.path().join("new/folder/switching.json").is_file());
    }
}

#[test]
fn init_leaves_settings_it_cannot_read_and_writes_nothing_then() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join(".vscode/settings.json");
    std::fs::create_dir(folder.path().join(".vscode")).unwrap();
    let init = || run(folder.path(), &["init", "--vscode", "switching.json"]);
    for (bytes, expected) in [(&b"{ // gr\xf6\xdfe\n}"[..], "UTF-8"), (b"[]", "no JSON object")] {
        std::fs::write(&settings, bytes).unwrap();
        let (code, _, err) = init();
        assert!(code == 2 && err.contains(expected), "{err}");
        assert_eq!(std::fs::read(&settings).unwrap(), bytes);
        assert!(!folder.path().join("switching.json").exists());
    }
    std::fs::write(&settings, "{ \"editor.tabSize\": 2 // mine\n}").unwrap();
    assert_eq!(init().0, 0);
    let text = std::fs::read_to_string(&settings).unwrap();
    assert!(text.starts_with("{ \"editor.tabSize\": 2, // mine\n  \"json.schemas\": ["), "{text}");
}

#[test]
fn check_takes_the_last_of_a_key_and_says_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.json"), "{ \"window\": 5,\n  \"window\": 0 }").unwrap();
    let (code, out, _) = run(folder.path(), &["check", "--format", "json", "a.json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    let window = told.as_array().unwrap().iter().find(|told| told["code"] == "out-of-range").unwrap();
    assert_eq!((code, &window["line"], &window["column"]), (1, &json!(2), &json!(13)), "{out}");
}

#[test]
fn explain_gives_every_value_its_origin_and_is_itself_valid() {
    let folder = tempfile::tempdir().unwrap();
    let train = "{ \"epochs\": 3,\n  \"optimizer\": {\n    \"window\": 7,\n    \"inner\": { \"kind\": \"sgd\" } } }";
    std::fs::write(folder.path().join("train.json"), train).unwrap();
    let (code, out, err) = run(folder.path(), &["explain", "train.json#/optimizer"]);
    assert_eq!(code, 0, "{err}");
    let line = |start: &str| out.lines().find(|line| line.trim_start().starts_with(start)).unwrap().to_owned();
    assert!(line("\"window\": 7,").ends_with("// train.json:3"), "{out}");
    assert!(line("\"kind\": \"sgd\",").ends_with("// train.json:4"), "{out}");
    assert!(line("\"threshold\": 0.9,").ends_with("// default"), "{out}");
    let config = ConvexitySwitchingConfig::from_json(&out, "explained").unwrap();
    assert_eq!(config.window, Some(7));
    let (code, _, err) = run(folder.path(), &["explain", "train.json"]);
    assert!(code == 1 && err.contains("unknown key \"epochs\""), "{err}");
    assert!(err.contains("check FILE#/optimizer"), "{err}");
    for (source, told) in [
        ("train.json#/optimiser", "there is nothing at /optimiser; did you mean \"optimizer\"?"),
        ("train.json#/optimizer/inner/x/y", "there is nothing at /optimizer/inner/x/y; valid keys there are \"kind\""),
        ("train.json#optimizer", "there is nothing at optimizer"),
        ("train.json#/epochs/3", "there is nothing at /epochs/3"),
    ] {
        let (code, _, err) = run(folder.path(), &["explain", source]);
        assert!(code == 1 && err.contains(told), "{err}");
    }
    assert_eq!(run(folder.path(), &["explain", "other.json"]).0, 2);
}

#[test]
fn the_rest_of_the_command_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (_, out, _) = run(folder.path(), &["schema"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), schema().to_value());
    assert_eq!(run(folder.path(), &["schema", "--write", "schema/s.json"]).0, 0);
    assert_eq!(std::fs::read_to_string(folder.path().join("schema/s.json")).unwrap(), out);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(run(folder.path(), &["completions", shell]).1.contains("explain"));
    }
    let (code, _, err) = run(folder.path(), &["chek"]);
    assert!(code == 2 && err.contains("check"), "{err}");
    let (code, out, _) = run(folder.path(), &["--version"]);
    assert_eq!((code, out), (0, concat!("burn-convexity ", env!("CARGO_PKG_VERSION"), "\n").to_owned()));
}
