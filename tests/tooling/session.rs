//! The language server, spoken to as an editor does.

use std::thread::JoinHandle;

use burn_convexity::tooling::serve;
use lsp_server::{Connection, Message, Notification, Request, Response};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A client with a server of its own.
struct Client {
    connection: Connection,
    server: JoinHandle<bool>,
    next: i32,
    /// Diagnostics told while something else was waited for.
    told: Vec<Value>,
}

const FILE: &str = "file:///project/switching.json";

impl Client {
    fn start(options: Value) -> Self {
        let (connection, other) = Connection::memory();
        let server = std::thread::spawn(move || serve(&other).unwrap());
        let mut client = Self { connection, server, next: 0, told: Vec::new() };
        let snippets = json!({ "textDocument": { "completion": { "completionItem": { "snippetSupport": true } } } });
        let answer = client.ask("initialize", json!({ "capabilities": snippets, "initializationOptions": options }));
        assert_eq!(answer["capabilities"]["positionEncoding"], "utf-16");
        client.tell("initialized", json!({}));
        client
    }

    fn send(&mut self, method: &str, params: Value) -> i32 {
        self.next += 1;
        let request = Request::new(self.next.into(), method.into(), params);
        self.connection.sender.send(request.into()).unwrap();
        self.next
    }

    fn tell(&self, method: &str, params: Value) {
        self.connection.sender.send(Notification::new(method.into(), params).into()).unwrap();
    }

    fn response(&mut self, id: i32) -> Response {
        loop {
            match self.connection.receiver.recv().unwrap() {
                Message::Response(response) if response.id == id.into() => return response,
                Message::Response(_) => {}
                Message::Notification(notification) => self.told.push(notification.params),
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        let response = serde_json::to_value(self.response(id)).unwrap();
        assert!(response.get("error").is_none(), "{response}");
        response["result"].clone()
    }

    fn open(&mut self, uri: &str, text: &str) -> Value {
        let document = json!({ "uri": uri, "languageId": "jsonc", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
        self.diagnostics()
    }

    fn close(&mut self, uri: &str) {
        self.tell("textDocument/didClose", json!({ "textDocument": { "uri": uri } }));
        assert_eq!(self.diagnostics()["diagnostics"], json!([]));
    }

    /// Change the pointers; the diagnostics of so many open files come anew.
    fn point(&mut self, pointers: Value, open: usize) {
        let settings = json!({ "settings": { "pointers": pointers } });
        self.tell("workspace/didChangeConfiguration", settings);
        (0..open).for_each(|_| drop(self.diagnostics()));
    }

    fn change(&mut self, version: i32, changes: Value) -> Value {
        let document = json!({ "uri": FILE, "version": version });
        self.tell("textDocument/didChange", json!({ "textDocument": document, "contentChanges": changes }));
        self.diagnostics()
    }

    fn diagnostics(&mut self) -> Value {
        match self.connection.receiver.recv().unwrap() {
            Message::Notification(notification) => notification.params,
            other => panic!("{other:?}"),
        }
    }

    /// Ask about the place marked by `|` in a text.
    fn at(&mut self, method: &str, marked: &str) -> Value {
        let offset = marked.find('|').unwrap();
        self.open(FILE, &marked.replacen('|', "", 1));
        let before = &marked[..offset];
        let line = before.matches('\n').count();
        let column = before[before.rfind('\n').map_or(0, |at| at + 1)..].encode_utf16().count();
        let position = json!({ "line": line, "character": column });
        let document = json!({ "uri": FILE });
        let context = json!({ "diagnostics": [], "triggerKind": 1 });
        let range = json!({ "start": position, "end": position });
        self.ask(method, json!({ "textDocument": document, "position": position, "range": range, "context": context }))
    }

    fn labels(&mut self, marked: &str) -> Vec<String> {
        let items = self.at("textDocument/completion", marked);
        items.as_array().unwrap().iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
    }

    fn stop(mut self) {
        assert_eq!(self.ask("shutdown", Value::Null), Value::Null);
        self.tell("exit", Value::Null);
        assert!(self.server.join().unwrap());
    }
}

/// A text after the edits of an answer.
fn edited(text: &str, edits: &Value) -> String {
    let offset = |position: &Value| {
        let line = position["line"].as_u64().unwrap() as usize;
        let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        let units = position["character"].as_u64().unwrap() as usize;
        let mut seen = 0;
        let before = text[start..].chars().take_while(|character| {
            seen += character.len_utf16();
            seen <= units
        });
        start + before.map(char::len_utf8).sum::<usize>()
    };
    let mut edits: Vec<_> = edits.as_array().unwrap().iter().collect();
    edits.sort_by_key(|edit| offset(&edit["range"]["start"]));
    let mut text_after = text.to_owned();
    for edit in edits.into_iter().rev() {
        let range = offset(&edit["range"]["start"])..offset(&edit["range"]["end"]);
        text_after.replace_range(range, edit["newText"].as_str().unwrap());
    }
    text_after
}

#[test]
fn a_session_from_first_key_to_last() {
    let mut client = Client::start(Value::Null);
    // Half typed, in UTF-16 columns: the crab is two units wide.
    let told = client.open(FILE, "{ /* 🦀 */ \"windw\": 3");
    assert_eq!(told["diagnostics"][0]["code"], "syntax");
    let close = json!([{ "range": { "start": { "line": 0, "character": 21 }, "end": { "line": 0, "character": 21 } }, "text": " }" }]);
    let told = client.change(2, close);
    let diagnostic = &told["diagnostics"][0];
    assert_eq!(told["version"], 2);
    assert_eq!(diagnostic["code"], "unknown-key");
    assert_eq!(diagnostic["range"]["start"], json!({ "line": 0, "character": 11 }));
    assert_eq!(diagnostic["range"]["end"], json!({ "line": 0, "character": 18 }));
    // The fix on offer leaves nothing to say.
    let params = json!({ "textDocument": { "uri": FILE }, "range": diagnostic["range"], "context": { "diagnostics": [diagnostic] } });
    let actions = client.ask("textDocument/codeAction", params);
    assert_eq!(actions[0]["title"], "Change to \"window\"");
    assert_eq!(actions[0]["isPreferred"], true);
    // Nobody wants a setting removed unasked.
    assert_eq!((&actions[1]["title"], &actions[1]["isPreferred"]), (&json!("Remove \"windw\""), &json!(false)));
    let text = edited("{ /* 🦀 */ \"windw\": 3 }", &actions[0]["edit"]["changes"][FILE]);
    assert_eq!(text, "{ /* 🦀 */ \"window\": 3 }");
    let told = client.change(3, json!([{ "text": text }]));
    assert_eq!(told["diagnostics"], json!([]));
    client.tell("textDocument/didClose", json!({ "textDocument": { "uri": FILE } }));
    assert_eq!(client.diagnostics()["diagnostics"], json!([]));
    client.stop();
}

#[test]
fn completion_fits_the_place() {
    let mut client = Client::start(Value::Null);
    let all = [
        "$schema",
        "detector",
        "direction",
        "evaluation",
        "inner",
        "l2",
        "line_search",
        "metric",
        "metric_renewal",
        "safe_resort",
        "start",
        "window",
    ];
    for (marked, expected) in [
        // Keys: all, those not given yet, those of the kind, and the kind alone where it is open.
        ("{ | }", &all[..]),
        ("{ \"window\": 3, \"| }", &all[..all.len() - 1]),
        ("{ \"inner\": { | } }", &["kind"]),
        ("{ \"inner\": { \"kind\": \"sgd\", \"\"| } }", &["momentum", "weight_decay"]),
        ("{ \"inner\": { \"kind\": \"sgd\", \"momentum\": { \"nesterov\": true, | } } }", &["dampening", "momentum"]),
        ("{ \"detector\": { \"kind\": \"all\", \"of\": [{ \"kind\": \"at_window\", | }] } }", &["window"]),
        ("{ \"evaluation\": {\n  |", &["batches", "check"]),
        ("{ \"evaluation\": { \"bat|ches\": 3, \"check\": true } }", &["batches"]),
        // Values: names, kinds, booleans, numbers and blocks.
        ("{ \"metric\": | }", &["\"auto\"", "\"kronecker\"", "\"identity\"", "\"inner\""]),
        ("{ \"metric\": \"i|\n}", &["\"auto\"", "\"kronecker\"", "\"identity\"", "\"inner\""]),
        ("{ \"direction\": { \"kind\": \"|\" } }", &["\"conjugate_gradient\"", "\"l_bfgs\""]),
        ("{ \"direction\": { \"kind\": \"l_bfgs\", \"memory\": | } }", &["\"all\"", "100"]),
        ("{ \"safe_resort\": { \"enabled\": | } }", &["true", "false"]),
        ("{ \"safe_resort\": { \"hold_off\":| } }", &["5"]),
        ("{ \"window\": | }", &["null"]),
        ("{ \"direction\": | }", &["conjugate_gradient", "l_bfgs"]),
        ("{ \"$schema\": | }", &["\"./convexity-switching.schema.json\""]),
        ("|", &["default", "paper", "conjugate_gradient", "careful"]),
        // Nothing is due.
        ("{ // | \n}", &[]),
        ("{ \"unknown\": { | } }", &[]),
        ("{} |", &[]),
    ] {
        assert_eq!(client.labels(marked), expected, "{marked}");
    }
    assert_eq!(client.labels("{ \"detector\": { \"kind\": \"any\", \"of\": [|] } }").len(), 9);
    client.stop();
}

#[test]
fn what_completion_inserts_is_right_as_it_stands() {
    let mut client = Client::start(Value::Null);
    for (marked, label, expected) in [
        ("{ | }", "window", "{ \"window\": null }"),
        ("{ |\"metric\": \"auto\" }", "window", "{ \"window\": null,\"metric\": \"auto\" }"),
        ("{ \"metric\": \"auto\" \"win|\" }", "window", "{ \"metric\": \"auto\", \"window\": null }"),
        ("{ win| }", "window", "{ \"window\": null }"),
        ("{ \"detector\": { | } }", "kind", "{ \"detector\": { \"kind\": \"gradient_norm_peak\" } }"),
        ("{ | }", "$schema", "{ \"$schema\": \"\" }"),
        ("{ | }", "detector", "{ \"detector\": { \"kind\": \"gradient_norm_peak\" } }"),
        ("{ | }", "direction", "{ \"direction\": { \"kind\": \"l_bfgs\" } }"),
        ("{ | }", "metric", "{ \"metric\": \"auto\" }"),
        (
            "{\n  \"inner\": |\n}",
            "sgd",
            "{\n  \"inner\": {\n    \"kind\": \"sgd\",\n    \"momentum\": null,\n    \"weight_decay\": 0.0\n  }\n}",
        ),
    ] {
        let items = client.at("textDocument/completion", marked);
        let item = items.as_array().unwrap().iter().find(|item| item["label"] == label).unwrap();
        let mut edits = vec![item["textEdit"].clone()];
        edits.extend(item["additionalTextEdits"].as_array().into_iter().flatten().cloned());
        assert_eq!(chosen(&edited(&marked.replacen('|', "", 1), &json!(edits))), expected, "{marked}");
        assert!(!item["documentation"]["value"].as_str().unwrap().is_empty());
    }
    client.stop();
}

/// A snippet as it stands before anything is typed: the first of each choice, the placeholders' own texts.
fn chosen(snippet: &str) -> String {
    let mut text = snippet.replace("\\$", "\u{1}").replace("\\}", "\u{2}").replace("$1", "");
    while let Some(start) = text.find("${1") {
        let end = start + text[start..].find('}').unwrap();
        let inner = text[start + 4..end].trim_end_matches('|').split(',').next().unwrap().to_owned();
        text.replace_range(start..=end, &inner);
    }
    text.replace('\u{1}', "$").replace('\u{2}', "}")
}

#[test]
fn hover_tells_meaning_range_default_and_source() {
    let mut client = Client::start(Value::Null);
    for (marked, parts) in [
        (
            "{ \"detector\": { \"kind\": \"gradient_norm_peak\", \"thre|shold\": 0.8 } }",
            &[
                "**detector.threshold**",
                "Share of its largest value",
                "above 0 and at most 1",
                "Default: `0.9`",
                "Source:",
            ][..],
        ),
        ("{ \"metric\": \"in|ner\" }", &["`inner`: The diagonal"]),
        ("{ \"met|ric\": \"inner\" }", &["- `identity`: The Euclidean one", "Default: `\"auto\"`"]),
        ("{ \"inner\": { \"kind\": \"sg|d\" } }", &["`sgd`: Stochastic gradient descent"]),
        ("{ \"inner\": { \"ki|nd\": \"sgd\" } }", &["- `adamw`: Adam with decoupled"]),
        ("{ \"win|dow\": 3 }", &["an integer at least 1 or null", "Default: `null`"]),
        ("{ \"inner\": { \"kind\": \"sgd\", \"momen|tum\": {} } }", &["an object such as { \"dampening\"", "or null"]),
    ] {
        let hover = client.at("textDocument/hover", marked);
        let text = hover["contents"]["value"].as_str().unwrap_or_default();
        parts.iter().for_each(|part| assert!(text.contains(part), "{part} in {text}"));
    }
    for marked in ["{ \"unk|nown\": 3 }", "{| }", "|", "{ // com|ment\n}"] {
        assert_eq!(client.at("textDocument/hover", marked), Value::Null, "{marked}");
    }
    client.stop();
}

#[test]
fn code_actions_put_right_what_can_be() {
    let mut client = Client::start(Value::Null);
    for (marked, title, expected) in [
        ("{ \"metric\": \"|iner\" }", "Change to \"inner\"", "{ \"metric\": \"inner\" }"),
        ("{ \"metric\": \"|xyz\" }", "Change to \"identity\"", "{ \"metric\": \"identity\" }"),
        (
            "{ \"detector\": { \"kind\": \"loss_slope\", \"|longest\": 8 } }",
            "Change to \"windows\"",
            "{ \"detector\": { \"kind\": \"loss_slope\", \"windows\": 8 } }",
        ),
        (
            "{ \"detector\": { \"kind\": \"loss_slope\", \"|longest\": 8, \"windows\": 9 } }",
            "Remove \"longest\"",
            "{ \"detector\": { \"kind\": \"loss_slope\", \"windows\": 9 } }",
        ),
        ("{ \"window\": 3, \"|xyz\": [1] }", "Remove \"xyz\"", "{ \"window\": 3 }"),
        ("{ \"window\": 3, \"|window\": 4 }", "Remove \"window\"", "{ \"window\": 3 }"),
        (
            "{ \"inner\": {| \"beta_1\": 0.8 } }",
            "Make it \"adamw\"",
            "{ \"inner\": { \"kind\": \"adamw\", \"beta_1\": 0.8 } }",
        ),
        (
            "{ \"direction\": { \"kind\": \"l_bfgs\"| } }",
            "Insert the missing keys with their defaults",
            "{ \"direction\": { \"kind\": \"l_bfgs\", \"batch_gradients\": 100, \"function_values\": true, \"memory\": 100, \"memory_bytes\": 8589934592, \"self_scaling\": false } }",
        ),
        (
            "{ \"detector\": { \"kind\": \"any\"| } }",
            "Insert the missing keys with their defaults",
            "{ \"detector\": { \"kind\": \"any\", \"of\": [{\"kind\":\"gradient_norm_peak\"}] } }",
        ),
    ] {
        let actions = client.at("textDocument/codeAction", marked);
        let action = actions.as_array().unwrap().iter().find(|action| action["title"] == title);
        let action = action.unwrap_or_else(|| panic!("{marked}: {actions}"));
        assert_eq!(edited(&marked.replacen('|', "", 1), &action["edit"]["changes"][FILE]), expected);
    }
    client.stop();
}

#[test]
fn formatting_and_outline() {
    let mut client = Client::start(Value::Null);
    let text = "{\"window\":3,\n\"inner\":{\"kind\":\"sgd\"} /* ü */}";
    client.open(FILE, text);
    let params = json!({ "textDocument": { "uri": FILE }, "options": { "tabSize": 4, "insertSpaces": true } });
    let edits = client.ask("textDocument/formatting", params.clone());
    assert_eq!(edited(text, &edits), "{\n    \"window\": 3,\n    \"inner\": { \"kind\": \"sgd\" } /* ü */\n}\n");
    let symbols = client.ask("textDocument/documentSymbol", params.clone());
    let named = |symbol: &Value| (symbol["name"].clone(), symbol["detail"].clone());
    assert_eq!(named(&symbols[0]), (json!("window"), json!("3")));
    assert_eq!(named(&symbols[1]), (json!("inner"), json!("sgd")));
    assert_eq!(named(&symbols[1]["children"][0]), (json!("kind"), json!("\"sgd\"")));
    client.open(FILE, "{ \"window\": ");
    assert_eq!(client.ask("textDocument/formatting", params.clone()), Value::Null);
    // Line ends stay, and what is formatted is left alone.
    let text = "{\r\n    \"window\": 3, /* a\r\n b */\r\n  \"l2\": 0\r\n}\r\n";
    client.open(FILE, text);
    let settled = edited(text, &client.ask("textDocument/formatting", params.clone()));
    assert_eq!(settled, "{\r\n    \"window\": 3, /* a\r\n b */\r\n    \"l2\": 0\r\n}\r\n");
    client.open(FILE, &settled);
    assert_eq!(client.ask("textDocument/formatting", params), json!([]));
    client.stop();
}

#[test]
fn only_configurations_are_looked_at_and_each_where_it_stands() {
    let mut client = Client::start(json!({ "pointers": { "train*.json": "/optimizer" } }));
    let text = "{ \"epochs\": 3, \"optimizer\": { \"windw\": 3 } }";
    let told = client.open("file:///a/train_1.json", text);
    assert_eq!(told["diagnostics"][0]["code"], "unknown-key");
    let told = client.open("untitled:package.json", text);
    assert_eq!(told["diagnostics"], json!([]));
    // Several are open, and one becomes a configuration by its `$schema`.
    let told = client.open("file:///b/other.json", "{ \"$schema\": \"../convexity-switching.schema.json\", \"x\": 1 }");
    assert_eq!(told["diagnostics"][0]["code"], "unknown-key");
    let position = json!({ "line": 0, "character": 31 });
    let params = json!({ "textDocument": { "uri": "file:///a/train_1.json" }, "position": position });
    let items = client.ask("textDocument/completion", params);
    let offered = |label: &str| items.as_array().unwrap().iter().any(|item| item["label"] == label);
    // The schema of the file is another's.
    assert!(offered("window") && !offered("$schema"), "{items}");
    // The address of a file is not its name, settings of other things change nothing, and what is no pointer leads nowhere.
    client.tell("workspace/didChangeConfiguration", json!({ "settings": {} }));
    let (first, second) = ("file:///a/train%20gr%C3%B6%C3%9Fe.json", "file:///a/gr%C3%B6%C3%9Fe-2.json");
    assert_eq!(client.open(first, text)["diagnostics"][0]["code"], "unknown-key");
    client.close(first);
    client.point(json!({ "größe*.json": "optimizer" }), 3);
    assert_eq!(client.open(second, text)["diagnostics"][0]["code"], "nothing-there");
    client.close(second);
    client.point(json!({ "conf/train*.json": "/optimizer" }), 3);
    for (file, count) in [("file:///a/conf/train_2.json", 1), ("file:///a/myconf/train_2.json", 0)] {
        assert_eq!(client.open(file, text)["diagnostics"].as_array().unwrap().len(), count, "{file}");
        client.close(file);
    }
    client.point(json!({ "train*.json": "/optimizer" }), 3);
    // A setting made later counts for what is open.
    client.tell("workspace/didChangeConfiguration", json!({ "settings": { "burn-convexity": { "pointers": {} } } }));
    let told: Vec<Value> = (0..3).map(|_| client.diagnostics()).collect();
    let train = told.iter().find(|told| told["uri"] == "file:///a/train_1.json").unwrap();
    assert_eq!(train["diagnostics"], json!([]));
    client.stop();
}

#[test]
fn what_is_unknown_malformed_or_too_large_is_answered() {
    let mut client = Client::start(json!({ "pointers": 7 }));
    let code = |response: Response| serde_json::to_value(response).unwrap()["error"]["code"].clone();
    let id = client.send("textDocument/somethingNew", json!({}));
    assert_eq!(code(client.response(id)), -32601);
    let id = client.send("textDocument/hover", json!({ "textDocument": 3 }));
    assert_eq!(code(client.response(id)), -32602);
    client.tell("textDocument/didChange", json!({ "nonsense": true }));
    client.tell("$/somethingNew", json!({}));
    let told = client.open(FILE, &" ".repeat(5 << 20));
    assert!(told["diagnostics"][0]["message"].as_str().unwrap().contains("4 MiB"), "{told}");
    // Of many requests in a row all are answered, in their order, the cancelled one too.
    let params = json!({ "textDocument": { "uri": FILE } });
    let ids: Vec<i32> = (0..50).map(|_| client.send("textDocument/documentSymbol", params.clone())).collect();
    client.tell("$/cancelRequest", json!({ "id": ids[49] }));
    for id in ids {
        let response = serde_json::to_value(client.response(id)).unwrap();
        assert!(response.get("result").is_some(), "{response}");
    }
    assert_eq!(client.ask("shutdown", Value::Null), Value::Null);
    let id = client.send("textDocument/hover", json!({}));
    assert_eq!(code(client.response(id)), -32600);
    client.tell("exit", Value::Null);
    assert!(client.server.join().unwrap());
}

#[test]
fn a_client_that_just_goes_is_noticed() {
    let client = Client::start(Value::Null);
    drop(client.connection);
    assert!(!client.server.join().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any text, any place, any question: an answer, and edits that lie within the text.
    #[test]
    fn no_text_and_no_place_ends_the_server(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("{"), Just("}"), Just("["), Just("]"), Just(":"), Just(","), Just("\n"), Just("\r"), Just("//"),
                Just("/*"), Just("*/"), Just("🦀"), Just("\""), Just("\\"), Just(" "), Just("1e999"), Just("null"),
                Just("\"detector\":"), Just("\"kind\":"), Just("\"any\""), Just("\"of\":["), Just("{\"metric\":"),
                Just("{\"inner\":{"), Just("\"$schema\":"), Just("\u{feff}"),
            ],
            0..24,
        ),
        line in 0u32..4,
        character in 0u32..40,
    ) {
        let mut client = Client::start(Value::Null);
        let text = pieces.concat();
        client.open(FILE, &text);
        let position = json!({ "line": line, "character": character });
        let params = json!({
            "textDocument": { "uri": FILE }, "position": position, "context": { "diagnostics": [], "triggerKind": 1 },
            "range": { "start": { "line": 0, "character": 0 }, "end": position },
            "options": { "tabSize": 2, "insertSpaces": true },
        });
        for method in ["completion", "hover", "codeAction", "formatting", "documentSymbol"] {
            let answer = client.ask(&format!("textDocument/{method}"), params.clone());
            // Edits that did not lie within the text could not be made.
            match method {
                "codeAction" => answer.as_array().unwrap().iter().for_each(|action| {
                    edited(&text, &action["edit"]["changes"][FILE]);
                }),
                "formatting" if !answer.is_null() => drop(edited(&text, &answer)),
                _ => {}
            }
        }
        let change = json!([{ "range": { "start": position, "end": { "line": 9, "character": 0 } }, "text": "}" }]);
        client.change(2, change);
        client.stop();
    }
}

/// Mutated files and messages through one server, `FUZZ` of them (default 2,000), the same in every run.
#[test]
fn no_mutation_of_a_file_or_a_message_ends_the_server() {
    let count: usize = std::env::var("FUZZ").map_or(2_000, |count| count.parse().unwrap());
    let files = super::files::files("tests/config/valid");
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let pieces =
        ["{", "}", "[", "]", "\"", ":", ",", "\\", "//", "/*", "*/", "\n", "\r", "🦀", "\u{feff}", "null", "1e999"];
    let methods = ["completion", "hover", "codeAction", "formatting", "documentSymbol", "didChange", "didOpen"];
    let mut state = 88_172_645_463_325_252_u64;
    // Marsaglia's xorshift.
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let mut client = Client::start(Value::Null);
    let mut text: Vec<char> = Vec::new();
    for round in 0..count {
        // Mutations pile up for a while.
        if round % 8 == 0 {
            text = texts[below(texts.len())].chars().collect();
        }
        let at = below(text.len() + 1);
        let end = (at + below(12)).min(text.len());
        match below(3) {
            0 => drop(text.drain(at..end)),
            1 => {
                let again = text[at..end].to_vec();
                text.splice(at..at, again);
            }
            _ => drop(text.splice(at..at, pieces[below(pieces.len())].chars())),
        }
        client.open(FILE, &text.iter().collect::<String>());
        let position = json!({ "line": below(30), "character": below(60) });
        let range = json!({ "start": position, "end": { "line": below(30), "character": below(60) } });
        let mut params = json!({
            "textDocument": { "uri": FILE, "version": 2 }, "position": position, "range": range,
            "context": { "diagnostics": [], "triggerKind": 1 }, "options": { "tabSize": 2, "insertSpaces": true },
            "contentChanges": [{ "range": range, "text": "}" }],
        });
        if below(4) == 0 {
            let keys = ["textDocument", "position", "range", "context", "options", "contentChanges"];
            let odd = [
                json!(null),
                json!(-1),
                json!([]),
                json!({}),
                json!("x"),
                json!({ "line": 4_294_967_295_u32, "character": 0 }),
            ];
            params[keys[below(keys.len())]] = odd[below(odd.len())].clone();
        }
        match methods[below(methods.len())] {
            change @ ("didChange" | "didOpen") => client.tell(&format!("textDocument/{change}"), params),
            ask => _ = client.send(&format!("textDocument/{ask}"), params),
        }
        // The answer to this comes after all others.
        let id = client.send("ping", Value::Null);
        client.response(id);
        client.told.clear();
    }
    client.stop();
}
