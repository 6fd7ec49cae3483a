//! What a file may say and what each mistake is answered with.

use std::path::PathBuf;

use super::*;
use crate::convex::direction::{LBfgsConfig, Memory};

fn schema_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schema/convexity-switching.schema.json")
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let generated = schema().to_value();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::create_dir_all(schema_file().parent().unwrap()).unwrap();
        std::fs::write(schema_file(), format!("{generated:#}\n")).unwrap();
    }
    // Compared as values: the order of keys depends on a feature of serde_json that any dependency may switch on.
    let committed = std::fs::read(schema_file()).unwrap_or_default();
    let committed: Value = serde_json::from_slice(&committed).unwrap_or_default();
    assert!(committed == generated, "the schema is stale: run `UPDATE_SCHEMA=1 cargo test schema`");
}

#[test]
fn every_property_of_the_schema_is_described_and_every_keyword_is_one_the_check_knows() {
    fn visit(schema: &serde_json::Value, path: &str) {
        const KNOWN: &str = "$id $ref $schema additionalProperties allOf anyOf const default defaultSnippets definitions description \
            examples \
            exclusiveMaximum exclusiveMinimum items maximum minItems minimum oneOf properties required title type";
        for (keyword, value) in schema.as_object().unwrap() {
            assert!(KNOWN.split(' ').any(|known| known == keyword), "{path}: {keyword}");
            match keyword.as_str() {
                "properties" | "definitions" => {
                    for (key, value) in value.as_object().unwrap() {
                        assert!(value["description"].is_string(), "{path}.{key} is not described");
                        visit(value, &format!("{path}.{key}"));
                    }
                }
                "oneOf" | "anyOf" | "allOf" => {
                    value.as_array().unwrap().iter().for_each(|value| visit(value, path));
                }
                "items" => visit(value, path),
                _ => {}
            }
        }
    }
    visit(&schema().to_value(), "");
}

fn load(text: &str) -> ConvexitySwitchingConfig {
    ConvexitySwitchingConfig::from_json(text, "switching.json").unwrap()
}

/// The error of a text with one mistake.
fn error(text: &str) -> String {
    ConvexitySwitchingConfig::from_json(text, "switching.json").unwrap_err().to_string()
}

#[test]
fn what_a_file_leaves_out_has_its_default() {
    assert_eq!(load("{}"), ConvexitySwitchingConfig::default());
    let config = load(
        r#"{
            // Comments and trailing commas are welcome.
            "$schema": "./convexity-switching.schema.json",
            "detector": { "kind": "gradient_norm_peak", "patience": 3, },
            "inner": { "kind": "sgd", "momentum": { "nesterov": true } }, /* also these */
            "direction": { "kind": "l_bfgs", "memory": 5.0 },
            "window": 1e2
        }"#,
    );
    let expected = ConvexitySwitchingConfig {
        schema: Some("./convexity-switching.schema.json".into()),
        detector: DetectorConfig::GradientNormPeak(GradientNormPeakConfig { patience: 3, ..Default::default() }),
        inner: InnerConfig::Sgd(InnerSgd {
            momentum: Some(MomentumConfig { nesterov: true, ..Default::default() }),
            ..Default::default()
        }),
        direction: DirectionConfig::LBfgs(LBfgsConfig { memory: Memory::Pairs(5), ..Default::default() }),
        window: Some(100),
        ..Default::default()
    };
    assert_eq!(config, expected);
}

#[test]
fn every_kind_is_found_by_its_name() {
    for kind in
        ["gradient_norm_peak", "at_window", "never", "loss_level", "loss_plateau", "norm_versus_loss", "loss_slope"]
    {
        let text = format!(r#"{{ "detector": {{ "kind": "{kind}" }} }}"#);
        let config = load(&text);
        assert_eq!(serde_json::json!(config.detector)["kind"], kind);
        let combined = format!(r#"{{ "detector": {{ "kind": "any", "of": [{{ "kind": "{kind}" }}] }} }}"#);
        let of = vec![config.detector];
        assert_eq!(load(&combined).detector, DetectorConfig::Any(CombinationConfig { of }));
    }
    for (part, kinds) in [
        ("inner", &["adam", "adamw", "sgd"][..]),
        ("direction", &["conjugate_gradient", "l_bfgs"]),
        ("line_search", &["hager_zhang", "strong_wolfe", "golden_section"]),
    ] {
        for kind in kinds {
            let config = load(&format!(r#"{{ "{part}": {{ "kind": "{kind}" }} }}"#));
            assert_eq!(serde_json::json!(config)[part]["kind"], *kind);
        }
    }
    for beta in
        ["fletcher_reeves", "polak_ribiere", "polak_ribiere_plus", "hestenes_stiefel", "dai_yuan", "hager_zhang"]
    {
        load(&format!(r#"{{ "direction": {{ "kind": "conjugate_gradient", "beta": "{beta}" }} }}"#));
    }
}

#[test]
fn each_mistake_has_its_place_and_its_message() {
    let cases = [
        // Unknown keys, with and without a similar name.
        (
            "{\n  \"detector\": {\n    \"kind\": \"gradient_norm_peak\",\n    \"treshold\": 0.8\n  }\n}",
            "4:5: unknown key \"treshold\" in detector (gradient_norm_peak); did you mean \"threshold\"?",
        ),
        (r#"{ "detectors": {} }"#, "1:3: unknown key \"detectors\" in the configuration; did you mean \"detector\"?"),
        (
            r#"{ "evaluation": { "x": 1 } }"#,
            "1:19: unknown key \"x\" in evaluation; valid keys are \"batches\", \"check\"",
        ),
        (r#"{ "$schemas": "x" }"#, "1:3: unknown key \"$schemas\" in the configuration; did you mean \"$schema\"?"),
        (
            r#"{ "detector": { "kind": "never", "$schema": "x" } }"#,
            "1:34: unknown key \"$schema\" in detector (never); valid keys are \"kind\"",
        ),
        (
            r#"{ "inner": { "kind": "sgd", "momentum": { "nestrov": true } } }"#,
            "1:43: unknown key \"nestrov\" in inner.momentum; did you mean \"nesterov\"?",
        ),
        (
            r#"{ "detector": { "kind": "all", "of": [{ "kind": "never" }, { "kind": "at_window", "windows": 3 }] } }"#,
            "1:83: unknown key \"windows\" in detector.of[1] (at_window); did you mean \"window\"?",
        ),
        // Columns count characters.
        (
            r#"{ /* größer */ "windw": 3 }"#,
            "1:16: unknown key \"windw\" in the configuration; did you mean \"window\"?",
        ),
        // Duplicates, also by escapes.
        (
            "{ \"window\": 3,\n  \"w\\u0069ndow\": 4 }",
            "2:3: duplicate key \"window\" in the configuration; it is first given at 1:3",
        ),
        (
            r#"{ "evaluation": { "batches": 1, "batches": 1 } }"#,
            "1:33: duplicate key \"batches\" in evaluation; it is first given at 1:19",
        ),
        // Kinds.
        (
            r#"{ "inner": { "beta_1": 0.8 } }"#,
            "1:12: inner needs the key \"kind\"; valid kinds are \"adam\", \"adamw\", \"sgd\"",
        ),
        (
            r#"{ "inner": { "kind": "adan", "beta_1": 7 } }"#,
            "1:22: unknown kind \"adan\" in inner; did you mean \"adam\"?",
        ),
        (
            r#"{ "line_search": { "kind": "xyz" } }"#,
            "1:28: unknown kind \"xyz\" in line_search; \
             valid kinds are \"hager_zhang\", \"strong_wolfe\", \"golden_section\"",
        ),
        (r#"{ "inner": { "kind": 3 } }"#, "1:22: inner.kind must be one of \"adam\", \"adamw\", \"sgd\", not 3"),
        (
            r#"{ "detector": "never" }"#,
            "1:15: detector must be an object such as { \"kind\": \"never\" }, not the string \"never\"",
        ),
        (
            r#"{ "detector": null }"#,
            "1:15: detector must be an object such as { \"kind\": \"gradient_norm_peak\" }, not null",
        ),
        (r#"{ "detector": { "kind": "any" } }"#, "1:15: detector (any) needs the key \"of\""),
        (
            r#"{ "detector": { "kind": "any", "of": [] } }"#,
            "1:38: detector.of must be a list of at least 1 element, but is an empty list",
        ),
        // Names.
        (r#"{ "metric": "iner" }"#, "1:13: unknown value \"iner\" in metric; did you mean \"inner\"?"),
        (
            r#"{ "direction": { "kind": "conjugate_gradient", "beta": "polak" } }"#,
            "1:56: unknown value \"polak\" in direction.beta; did you mean \"polak_ribiere\"?",
        ),
        (r#"{ "metric": 3 }"#, "1:13: metric must be one of \"auto\", \"kronecker\", \"identity\", \"inner\", not 3"),
        // Types and ranges.
        (
            r#"{ "detector": { "kind": "gradient_norm_peak", "threshold": 1.5 } }"#,
            "1:60: detector.threshold must be a number above 0 and at most 1, but is 1.5",
        ),
        (
            r#"{ "detector": { "kind": "gradient_norm_peak", "threshold": 0 } }"#,
            "1:60: detector.threshold must be a number above 0 and at most 1, but is 0",
        ),
        (
            r#"{ "detector": { "kind": "gradient_norm_peak", "threshold": "high" } }"#,
            "1:60: detector.threshold must be a number above 0 and at most 1, not the string \"high\"",
        ),
        (
            r#"{ "detector": { "kind": "gradient_norm_peak", "smoothing": 1 } }"#,
            "1:60: detector.smoothing must be a number at least 0 and under 1, but is 1",
        ),
        (r#"{ "window": 0 }"#, "1:13: window must be an integer at least 1 or null, but is 0"),
        (r#"{ "window": 2.5 }"#, "1:13: window must be an integer at least 1 or null, not 2.5"),
        (
            r#"{ "detector": { "kind": "at_window", "window": -3 } }"#,
            "1:48: detector.window must be an integer at least 1, but is -3",
        ),
        (
            r#"{ "safe_resort": { "enabled": "yes" } }"#,
            "1:31: safe_resort.enabled must be true or false, not the string \"yes\"",
        ),
        (
            r#"{ "line_search": { "kind": "hager_zhang", "rho": 1e400 } }"#,
            "1:50: line_search.rho must be a number that a computer can hold, not 1e400",
        ),
        (
            r#"{ "line_search": { "kind": "strong_wolfe", "max_evaluations": 5000000000 } }"#,
            "1:63: line_search.max_evaluations must be an integer at least 1 and at most 4294967295, \
             but is 5000000000",
        ),
        (
            r#"{ "direction": { "kind": "l_bfgs", "memory": 0.5 } }"#,
            "1:46: direction.memory must be an integer at least 1 and at most 10000 or \"all\", not 0.5",
        ),
        (
            r#"{ "inner": { "kind": "sgd", "momentum": 0.9 } }"#,
            "1:41: inner.momentum must be an object such as { \"dampening\": 0.1, \"momentum\": 0.9, \"nesterov\": false } \
             or null, not 0.9",
        ),
        (
            r#"{ "inner": { "kind": "adamw", "beta_2": 0.99999999 } }"#,
            "1:41: inner.beta_2 must be under 1 as a 32-bit number, at most 0.99999994, but is 0.99999999",
        ),
        (
            r#"{ "inner": { "kind": "adam", "epsilon": 1e-50 } }"#,
            "1:41: inner.epsilon must be above 0 as a 32-bit number, at least 1e-45, but is 1e-50",
        ),
        // Keys of elsewhere.
        (
            r#"{ "lr": 1e-3 }"#,
            "1:3: unknown key \"lr\" in the configuration; the learning rate is no part of it: \
             give it to the `Learner`, or to `step_with`",
        ),
        (
            r#"{ "inner": { "kind": "adam", "betas": [0.9, 0.99] } }"#,
            "1:30: unknown key \"betas\" in inner (adam); write \"beta_1\" and \"beta_2\"",
        ),
        (
            r#"{ "optimizer": { "inner": { "kind": "sgd" } } }"#,
            "1:3: unknown key \"optimizer\" in the configuration; if it holds the configuration, check FILE#/optimizer",
        ),
        (
            r#"{ "optimizer": { "kind": "sgd" } }"#,
            "1:3: unknown key \"optimizer\" in the configuration; did you mean \"inner\"?",
        ),
        ("[]", "1:1: the configuration must be an object, not an empty list"),
        // Rules between parameters; `c2` stands before `c1` in the second.
        (
            "{ \"safe_resort\": {\n  \"hold_off\": 30,\n  \"max_hold_off\": 10 } }",
            "2:15: safe_resort.hold_off (30) and safe_resort.max_hold_off (10) contradict each other: \
             the first hold-off cannot be longer than the longest; the latter is at 3:19",
        ),
        (
            r#"{ "safe_resort": { "hold_off": 100 } }"#,
            "1:32: safe_resort.hold_off (100) and safe_resort.max_hold_off (80) contradict each other: \
             the first hold-off cannot be longer than the longest; the latter is a default",
        ),
        (
            r#"{ "safe_resort": { "max_hold_off": 3 } }"#,
            "1:18: safe_resort.hold_off (5) and safe_resort.max_hold_off (3) contradict each other: \
             the first hold-off cannot be longer than the longest; the latter is at 1:36",
        ),
        (
            "{ \"metric\": \"inner\",\n  \"inner\": { \"kind\": \"sgd\" } }",
            "1:13: metric (inner) and inner.kind (sgd) contradict each other: \
             this metric is made of the second moment of adam or adamw; the latter is at 2:22",
        ),
        (
            r#"{ "line_search": { "kind": "strong_wolfe", "c2": 0.1, "c1": 0.2 } }"#,
            "1:61: line_search.c1 (0.2) and line_search.c2 (0.1) contradict each other: \
             c1 must be below c2, otherwise it may be that no step satisfies both; the latter is at 1:50",
        ),
        // What is no JSON.
        ("", "1:1: not valid JSON: the text is empty, write at least {}"),
        ("// nothing\n", "1:1: not valid JSON: the text is empty, write at least {}"),
        ("{\n  \"window\": 3", "1:1: not valid JSON: unterminated object"),
        ("{\n  \"window\" 3 }", "2:12: not valid JSON: expected colon after the string or word in object property"),
        ("{ \"window\": 3 \"metric\": \"inner\" }", "1:14: not valid JSON: expected comma"),
        ("{ window: 3 }", "1:3: not valid JSON: expected string for object property"),
        ("{ \"window\": .5 }", "1:13: not valid JSON: leading or trailing decimal points on numbers are not allowed"),
        ("{ \"l2\": NaN }", "1:9: not valid JSON: unexpected word; JSON has no NaN and no infinity"),
        ("# mine\n{}", "1:1: not valid JSON: unexpected token; comments are // ... or /* ... */"),
        ("{} {}", "1:4: not valid JSON: text cannot contain more than one JSON value"),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), format!("switching.json:{expected}"), "{text}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_in_its_order() {
    let text = "{ \"windw\": 1,\n  \"metric\": 2,\n  \"inner\": {},\n  \"metric\": \"inner\" }";
    assert_eq!(
        error(text),
        "switching.json:1:3: unknown key \"windw\" in the configuration; did you mean \"window\"?\n\
         switching.json:3:12: inner needs the key \"kind\"; valid kinds are \"adam\", \"adamw\", \"sgd\"\n\
         switching.json:4:3: duplicate key \"metric\" in the configuration; it is first given at 2:3"
    );
}

#[test]
fn a_diagnostic_can_be_taken_apart() {
    let text = r#"{ "inner": { "kind": "adamm" } }"#;
    let error = ConvexitySwitchingConfig::from_json(text, "x").unwrap_err();
    let ConfigError::Invalid { diagnostics, .. } = error else { panic!("{error}") };
    let [Diagnostic { location: Some(location), path, problem }] = &diagnostics[..] else { panic!("{diagnostics:?}") };
    assert_eq!(&text[location.bytes.clone()], "\"adamm\"");
    assert_eq!(path.to_string(), "inner.kind");
    let Problem::UnknownName { valid, nearest, .. } = problem else { panic!("{problem:?}") };
    assert_eq!(valid, &["adam", "adamw", "sgd"]);
    assert_eq!(nearest.as_deref(), Some("adam"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.json");
    for path in [missing.as_path(), folder.path()] {
        let error = ConvexitySwitchingConfig::load(path).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }));
        let start = format!("cannot read the configuration {}: ", path.display());
        assert!(error.to_string().starts_with(&start), "{error}");
    }
    let latin = folder.path().join("latin.json");
    std::fs::write(&latin, b"{\n // gr\xfcn\n}").unwrap();
    let error = ConvexitySwitchingConfig::load(&latin).unwrap_err();
    assert_eq!(error.to_string(), format!("{}:2:7: the file is not UTF-8 text: save it as UTF-8", latin.display()));
    let error = ConvexitySwitchingConfig::default().save(folder.path()).unwrap_err();
    assert!(matches!(error, ConfigError::Unwritable { .. }));
}

#[test]
fn burn_s_own_loading_checks_as_ours() {
    use ::burn::config::{Config, ConfigError};
    type Ours = ConvexitySwitchingConfig;

    let error = <Ours as Config>::load_binary(b"{ \"windw\": 3 }").unwrap_err();
    let ConfigError::InvalidFormat(message) = error else { panic!("{error}") };
    assert!(message.starts_with("configuration:1:3: unknown key"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switching.json");
    let missing = <Ours as Config>::load(&file).unwrap_err();
    assert!(matches!(missing, ConfigError::FileNotFound(_)));
    <Ours as Config>::save(&Ours::paper(), &file).unwrap();
    assert_eq!(<Ours as Config>::load(&file).unwrap(), Ours::paper());
}

#[test]
fn a_file_with_a_byte_order_mark_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("marked.json");
    let marked = "\u{feff}{ \"window\": 3 }";
    assert_eq!(ConvexitySwitchingConfig::from_json(marked, "marked").unwrap().window, Some(3));
    std::fs::write(&file, marked).unwrap();
    assert_eq!(ConvexitySwitchingConfig::load(&file).unwrap().window, Some(3));
}

#[test]
fn deep_nesting_is_answered_not_overflowed() {
    let nested = |depth: usize| {
        let open = r#"{ "kind": "any", "of": ["#.repeat(depth);
        format!(r#"{{ "detector": {open} {{ "kind": "never" }} {} }}"#, "] }".repeat(depth))
    };
    load(&nested(150));
    assert!(error(&nested(10_000)).ends_with("not valid JSON: maximum nesting depth exceeded"));
}

#[test]
fn a_configuration_built_in_rust_is_checked_by_the_same_rules() {
    let default = ConvexitySwitchingConfig::default;
    assert!(default().validate().is_ok());
    assert!(ConvexitySwitchingConfig::paper().validate().is_ok());
    let refused = |config: ConvexitySwitchingConfig| config.validate().unwrap_err().to_string();
    assert_eq!(
        refused(ConvexitySwitchingConfig { window: Some(0), ..default() }),
        "configuration: window must be an integer at least 1 or null, but is 0"
    );
    let threshold = GradientNormPeakConfig { threshold: f64::NAN, ..Default::default() };
    let detector = DetectorConfig::GradientNormPeak(threshold);
    let combined = DetectorConfig::All(CombinationConfig { of: vec![detector] });
    assert_eq!(
        refused(ConvexitySwitchingConfig { detector: combined, ..default() }),
        "configuration: detector.of[0].threshold must be above 0 and at most 1, but is NaN"
    );
    let inner = InnerConfig::Adam(InnerAdam { epsilon: f64::INFINITY, ..Default::default() });
    assert_eq!(
        refused(ConvexitySwitchingConfig { inner, ..default() }),
        "configuration: inner.epsilon must be a number above 0, not null"
    );
    assert_eq!(
        refused(ConvexitySwitchingConfig { metric_renewal: Some(f64::INFINITY), ..default() }),
        "configuration: metric_renewal must be above 0 and finite, or `null`, but is inf"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switching.json");
    let config = ConvexitySwitchingConfig { window: Some(0), ..default() };
    assert!(matches!(config.save(&file), Err(ConfigError::Invalid { .. })));
    assert!(!file.exists());
}

#[test]
fn the_paper_s_preset_is_its_rule() {
    let paper = serde_json::json!(ConvexitySwitchingConfig::paper());
    assert_eq!(paper["inner"]["kind"], "adam");
    let detector = serde_json::json!({
        "kind": "gradient_norm_peak", "threshold": 0.9, "smoothing": 0.0, "patience": 1, "minimum_windows": 2,
        "statistic": "batch_norm",
    });
    assert_eq!(paper["detector"], detector);
    assert_eq!(paper["direction"]["beta"], "polak_ribiere_plus");
    assert_eq!(paper["line_search"]["kind"], "golden_section");
}

#[test]
fn the_detector_built_is_the_one_described() {
    let text = r#"{ "detector": { "kind": "all", "of": [
        { "kind": "gradient_norm_peak", "threshold": 0.5 },
        { "kind": "any", "of": [{ "kind": "never" }, { "kind": "at_window", "window": 7 }] }
    ] } }"#;
    let built = format!("{:?}", load(text).detector.build());
    for part in ["All", "GradientNormPeak", "threshold: 0.5", "Any", "Never", "window: 7"] {
        assert!(built.contains(part), "{part} in {built}");
    }
}

/// A range is stated twice, in the schema for files and in `validate` for Rust: here both are asked about every number.
#[test]
fn the_schema_and_the_parts_agree_on_the_range_of_every_number() {
    let schema = schema().to_value();
    let mut numbers = 0;
    for (part, definition) in
        [("detector", "DetectorConfig"), ("direction", "DirectionConfig"), ("line_search", "LineSearchConfig")]
    {
        for variant in schema["definitions"][definition]["oneOf"].as_array().unwrap() {
            let properties = variant["properties"].as_object().unwrap();
            let numeric = |property: &Value| {
                let types = property["type"].to_string();
                types.contains("number") || types.contains("integer")
            };
            for (key, _) in properties.iter().filter(|(_, property)| numeric(property)) {
                numbers += 1;
                for value in [-1.0, 0.0, 1e-9, 0.5, 1.0, 1.5, 2.0, 3.0, 1e4, 1e5, 1e10, 1e300] {
                    let kind = &properties["kind"]["const"];
                    let text = format!(r#"{{ "{part}": {{ "kind": {kind}, "{key}": {value:?} }} }}"#);
                    let (value, _) = document::Document::parse(&text).unwrap().to_value();
                    let Ok(config) = serde_json::from_value(value.clone()) else {
                        continue;
                    };
                    let by_the_schema = !check::check(&value).is_empty();
                    let by_the_part = rules::check(&config)
                        .iter()
                        .any(|finding| matches!(finding.problem, Problem::OutOfRange { .. }));
                    assert_eq!(by_the_schema, by_the_part, "{text}");
                }
            }
        }
    }
    assert!(numbers >= 25, "{numbers}");
}

mod round_trip {
    use proptest::prelude::*;

    use super::*;
    use crate::convex::direction::{Beta, ConjugateGradientConfig};
    use crate::convex::line_search::{HagerZhangConfig, StrongWolfeConfig};
    use crate::detector::*;

    /// Above 0 and under 1, with all bits in use.
    fn share() -> impl Strategy<Value = f64> {
        (1u64..1 << 53).prop_map(|bits| bits as f64 / 2f64.powi(53))
    }

    fn count() -> impl Strategy<Value = u64> {
        prop_oneof![1u64..100, 1u64..1 << 53]
    }

    fn statistic() -> impl Strategy<Value = Statistic> {
        prop_oneof![Just(Statistic::BatchNorm), Just(Statistic::MeanNorm)]
    }

    fn detector() -> impl Strategy<Value = DetectorConfig> {
        let peak = (share(), share(), count(), count(), statistic()).prop_map(
            |(threshold, smoothing, patience, minimum_windows, statistic)| {
                DetectorConfig::GradientNormPeak(GradientNormPeakConfig {
                    threshold,
                    smoothing,
                    patience,
                    minimum_windows,
                    statistic,
                })
            },
        );
        let plateau = (share(), count())
            .prop_map(|(min_gain, patience)| DetectorConfig::LossPlateau(LossPlateauConfig { min_gain, patience }));
        let level = share().prop_map(|share| DetectorConfig::LossLevel(LossLevelConfig { share }));
        let versus = (3u64..99, share(), statistic()).prop_map(|(windows, min_correlation, statistic)| {
            DetectorConfig::NormVersusLoss(NormVersusLossConfig { windows, min_correlation, statistic })
        });
        let slope = (share(), 3u64..99)
            .prop_map(|(rate, windows)| DetectorConfig::LossSlope(LossSlopeConfig { rate: 1e5 * rate, windows }));
        let window = count().prop_map(|window| DetectorConfig::AtWindow(AtWindowConfig { window }));
        let never = Just(DetectorConfig::Never(NeverConfig {}));
        prop_oneof![peak, plateau, level, versus, slope, window, never].prop_recursive(3, 8, 3, |part| {
            (proptest::collection::vec(part, 1..3), any::<bool>()).prop_map(|(of, any)| {
                let combination = CombinationConfig { of };
                if any { DetectorConfig::Any(combination) } else { DetectorConfig::All(combination) }
            })
        })
    }

    fn inner() -> impl Strategy<Value = InnerConfig> {
        let adam = (share(), share(), share(), any::<bool>(), share()).prop_map(
            |(beta_1, beta_2, epsilon, amsgrad, weight_decay)| {
                InnerConfig::Adam(InnerAdam { beta_1, beta_2, epsilon, amsgrad, weight_decay })
            },
        );
        let adamw = (share(), share(), any::<bool>()).prop_map(|(beta_1, weight_decay, cautious_weight_decay)| {
            InnerConfig::AdamW(InnerAdamW { beta_1, weight_decay, cautious_weight_decay, ..Default::default() })
        });
        prop_oneof![adam, adamw]
    }

    fn convex() -> impl Strategy<Value = (DirectionConfig, LineSearchConfig)> {
        let beta = prop_oneof![Just(Beta::DaiYuan), Just(Beta::HagerZhang), Just(Beta::FletcherReeves)];
        let direction = (beta, proptest::option::of(count()), proptest::option::of(share())).prop_map(
            |(beta, restart_every, powell)| {
                DirectionConfig::ConjugateGradient(ConjugateGradientConfig { beta, restart_every, powell })
            },
        );
        let zhang = share().prop_map(|share| {
            let epsilon = 1e-3 * share;
            LineSearchConfig::HagerZhang(HagerZhangConfig { theta: share, epsilon, ..Default::default() })
        });
        let wolfe = share()
            .prop_map(|c2| LineSearchConfig::StrongWolfe(StrongWolfeConfig { c1: c2 / 3.0, c2, ..Default::default() }));
        let memory = prop_oneof![(1..=10_000u64).prop_map(Memory::Pairs), Just(Memory::ALL)];
        let options = (0..=10_000u64, any::<[bool; 2]>());
        let l_bfgs = (memory, options).prop_map(|(memory, (batch_gradients, [self_scaling, function_values]))| {
            let rest = LBfgsConfig::default();
            DirectionConfig::LBfgs(LBfgsConfig { memory, batch_gradients, self_scaling, function_values, ..rest })
        });
        (prop_oneof![direction, l_bfgs], prop_oneof![zhang, wolfe])
    }

    fn config() -> impl Strategy<Value = ConvexitySwitchingConfig> {
        let options = (proptest::option::of(".*"), proptest::option::of(count()), any::<bool>());
        (options, inner(), detector(), convex(), share()).prop_map(
            |((schema, window, enabled), inner, detector, (direction, line_search), stall_gain)| {
                ConvexitySwitchingConfig {
                    schema,
                    inner,
                    detector,
                    window,
                    l2: stall_gain,
                    evaluation: EvaluationConfig { batches: window, check: enabled },
                    start: if enabled { StartConfig::Average } else { StartConfig::Last },
                    direction,
                    metric: if enabled { MetricConfig::Inner } else { MetricConfig::Identity },
                    metric_renewal: enabled.then_some(1e300 * stall_gain),
                    line_search,
                    safe_resort: SafeResortConfig {
                        enabled,
                        stall_gain,
                        stall_cost: 1e300 * stall_gain,
                        ..Default::default()
                    },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn no_text_is_answered_with_a_panic(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("{"), Just("}"), Just("["), Just("]"), Just(":"), Just(","), Just("\n"), Just("//"), Just("/*"),
                    Just("ü"), Just("\""), Just("\\u"), Just("1e999"), Just("-7"), Just("null"), Just("true"),
                    Just("\"detector\":"), Just("\"kind\":"), Just("\"any\""), Just("\"of\":"), Just("{\"metric\":"),
                ],
                0..20,
            ),
        ) {
            if let Err(error) = ConvexitySwitchingConfig::from_json(&pieces.concat(), "x") {
                prop_assert!(error.to_string().starts_with("x:"));
            }
        }

        #[test]
        fn what_is_saved_is_loaded(config in config()) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("switching.json");
            config.save(&file).unwrap();
            prop_assert_eq!(ConvexitySwitchingConfig::load(&file).unwrap(), config);
        }
    }
}
