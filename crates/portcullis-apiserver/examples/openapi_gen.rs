//! Makes `src/openapi/data.gz` from the OpenAPI v3 documents of a real kube-apiserver.
//!
//! `PORTCULLIS_PEERS=FOLDER cargo run -p portcullis-apiserver --example openapi_gen -- src/openapi/data.gz`, where FOLDER
//! holds kube-apiserver and etcd as `cargo xtask peers` builds them from the modules pinned in `peers/`.
//!
//! It starts both, takes the documents of every stable group-version, cuts them into schemas, paths and repeated
//! fragments (`src/openapi/archive.rs` says how), and shows that putting them together again gives the real server's bytes.
//! The schemas and their descriptions are Kubernetes', under the Apache License 2.0.

#[path = "../src/openapi/convert.rs"]
mod convert;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis_testkit::ControlPlane;
use serde_json::{Map, Value};

/// Parts of an operation that many operations share, and whose members are fragments.
const SHARED: [&str; 3] = ["parameters", "requestBody", "responses"];

#[derive(Default)]
struct Writer {
    fragments: Vec<String>,
    known: HashMap<String, usize>,
    schemas: BTreeMap<String, String>,
    documents: String,
    /// Without Go's escapes for HTML: so is the document of v2.
    plain: bool,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [output] = args.as_slice() else { bail!("usage: openapi_gen OUTPUT") };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (documents, v2) = runtime.block_on(download())?;
    // The most common wording of a schema is the shared one; documents keep only what differs.
    let mut wordings: BTreeMap<String, HashMap<String, usize>> = BTreeMap::new();
    for text in documents.values() {
        for (name, schema) in schemas(&parse(text)?) {
            *wordings.entry(name.clone()).or_default().entry(print(schema)?).or_default() += 1;
        }
    }
    let mut writer = Writer::default();
    for (name, texts) in wordings {
        let common = texts.into_iter().max_by(|(a, left), (b, right)| left.cmp(right).then(b.cmp(a)));
        writer.schemas.insert(name, common.context("a schema without text")?.0);
    }
    for (place, text) in &documents {
        writer.document(place, text).with_context(|| place.clone())?;
    }
    writer.v2(&v2).context("openapi/v2")?;
    let mut out = String::new();
    for fragment in &writer.fragments {
        out.push_str(&format!("F\t{fragment}\n"));
    }
    for (name, schema) in &writer.schemas {
        out.push_str(&format!("S\t{name}\t{schema}\n"));
    }
    out.push_str(&writer.documents);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(out.as_bytes())?;
    let packed = encoder.finish()?;
    let (documents, schemas) = (documents.len(), writer.schemas.len());
    let figures = format!("{documents} documents, {schemas} schemas, {} bytes, {} packed", out.len(), packed.len());
    writeln!(std::io::stdout(), "{figures}")?;
    std::fs::write(output, packed).with_context(|| output.clone())
}

/// The documents by place, of every group-version that is stable and of everything that is no group-version; and that of v2.
async fn download() -> Result<(BTreeMap<String, String>, String)> {
    let real = ControlPlane::start(&[]).await;
    let client = real.admin_client();
    let get = async |path: &str| -> Result<String> {
        let response = client.get(&format!("{}{path}", real.url()), &[]).await?;
        ensure!(response.status == 200, "{path}: {}", response.status);
        Ok(String::from_utf8(response.body.to_vec())?)
    };
    let index: Value = serde_json::from_str(&get("/openapi/v3").await?)?;
    let mut documents = BTreeMap::new();
    for (place, entry) in index.get("paths").and_then(Value::as_object).context("no paths in the index")? {
        let last = place.rsplit('/').next().unwrap_or_default();
        let unstable = place.starts_with("apis/") && (last.contains("alpha") || last.contains("beta"));
        if !unstable {
            let url = entry.get("serverRelativeURL").and_then(Value::as_str).context("no URL in the index")?;
            documents.insert(place.clone(), get(url).await?);
        }
    }
    Ok((documents, get("/openapi/v2").await?))
}

impl Writer {
    fn document(&mut self, place: &str, text: &str) -> Result<()> {
        let document = parse(text)?;
        ensure!(print(&Value::Object(document.clone()))? == text, "the text cannot be written as it came");
        let paths = document.get("paths").and_then(Value::as_object).context("no paths")?;
        let (head, _) = text.split_once("\"paths\":{").context("no paths")?;
        let components = document.get("components").and_then(Value::as_object).context("no components")?;
        let own = schemas(&document);
        let tail = match text.rsplit_once("\"securitySchemes\":") {
            Some((_, tail)) => format!("\"securitySchemes\":{tail}"),
            None => bail!("no securitySchemes"),
        };
        ensure!(components.keys().all(|key| matches!(key.as_str(), "schemas" | "securitySchemes")));
        self.documents.push_str(&format!("D\t{place}\t{head}\"paths\":{{\t{tail}\n"));
        let mut again = format!("{head}\"paths\":{{");
        for (name, schema) in &own {
            let json = print(schema)?;
            if self.schemas.get(*name) != Some(&json) {
                self.documents.push_str(&format!("V\t{name}\t{json}\n"));
            }
        }
        for (at, (path, item)) in paths.iter().enumerate() {
            self.documents.push_str(&format!("P\t{path}\n"));
            again.push_str(&format!("{}\"{path}\":{{", if at == 0 { "" } else { "," }));
            for (at, (method, operation)) in item.as_object().context("a path")?.iter().enumerate() {
                let json = self.shorten(method, operation)?;
                again.push_str(&format!("{}\"{method}\":{}", if at == 0 { "" } else { "," }, self.expand(&json)?));
                self.documents.push_str(&format!("O\t{method}\t{json}\n"));
            }
            again.push('}');
        }
        again.push_str("},\"components\":{");
        if !own.is_empty() {
            let texts: Result<Vec<String>> =
                own.iter().map(|(name, s)| Ok(format!("\"{name}\":{}", print(s)?))).collect();
            again.push_str(&format!("\"schemas\":{{{}}},", texts?.join(",")));
        }
        again.push_str(&tail);
        ensure!(again == text, "the parts do not make the document again");
        Ok(())
    }

    /// The document of OpenAPI v2: its paths as they are, of its definitions those that the rules do not give.
    fn v2(&mut self, text: &str) -> Result<()> {
        self.plain = true;
        let document = parse(text)?;
        ensure!(plain(&Value::Object(document.clone()))? == text, "the text cannot be written as it came");
        let (head, _) = text.split_once("\"paths\":{").context("no paths")?;
        let mut tail = document.clone();
        tail.retain(|name, _| !matches!(name.as_str(), "swagger" | "info" | "paths" | "definitions"));
        let tail = plain(&Value::Object(tail))?;
        let tail = tail.strip_prefix('{').context("no object")?;
        ensure!(text.ends_with(tail), "the members stand in another order");
        self.documents.push_str(&format!("D\topenapi/v2\t{head}\"paths\":{{\t{tail}\n"));
        let definitions = document.get("definitions").and_then(Value::as_object).context("no definitions")?;
        for (name, definition) in definitions {
            let by_rule = self.schemas.get(name).map(|text| serde_json::from_str(text)).transpose()?;
            if by_rule.map(|schema: Value| convert::to_v2(&schema)).as_ref() != Some(definition) {
                self.documents.push_str(&format!("V\t{name}\t{}\n", plain(definition)?));
            }
        }
        for (path, item) in document.get("paths").and_then(Value::as_object).context("no paths")? {
            self.documents.push_str(&format!("P\t{path}\n"));
            for (method, operation) in item.as_object().context("a path")? {
                let json = self.shorten(method, operation)?;
                self.documents.push_str(&format!("O\t{method}\t{json}\n"));
            }
        }
        Ok(())
    }

    /// JSON of an operation, its shared parts replaced by numbers of fragments.
    fn shorten(&mut self, method: &str, operation: &Value) -> Result<String> {
        if method == "parameters" {
            return self.elements(operation);
        }
        let members = operation.as_object().context("an operation")?;
        let mut parts = Vec::new();
        for (name, value) in members {
            let json = match name.as_str() {
                "parameters" => self.elements(value)?,
                _ if SHARED.contains(&name.as_str()) => {
                    let json = self.print(value)?;
                    self.fragment(json)
                }
                _ => self.print(value)?,
            };
            parts.push(format!("\"{name}\":{json}"));
        }
        Ok(format!("{{{}}}", parts.join(",")))
    }

    fn elements(&mut self, list: &Value) -> Result<String> {
        let list = list.as_array().context("parameters")?;
        let mut parts = Vec::new();
        for one in list {
            let json = self.print(one)?;
            parts.push(self.fragment(json));
        }
        Ok(format!("[{}]", parts.join(",")))
    }

    fn print(&self, value: &Value) -> Result<String> {
        if self.plain { plain(value) } else { print(value) }
    }

    fn fragment(&mut self, json: String) -> String {
        let next = self.fragments.len();
        let number = *self.known.entry(json.clone()).or_insert(next);
        if number == next {
            self.fragments.push(json);
        }
        format!("\u{1}{number}\u{2}")
    }

    fn expand(&self, json: &str) -> Result<String> {
        let mut parts = json.split(['\u{1}', '\u{2}']);
        let mut out = parts.next().unwrap_or_default().to_owned();
        while let (Some(number), Some(after)) = (parts.next(), parts.next()) {
            out.push_str(self.fragments.get(number.parse::<usize>()?).context("no such fragment")?);
            out.push_str(after);
        }
        Ok(out)
    }
}

fn parse(text: &str) -> Result<Map<String, Value>> {
    Ok(serde_json::from_str(text)?)
}

/// As Go writes it.
fn print(value: &Value) -> Result<String> {
    Ok(String::from_utf8(portcullis_kube::go::to_json(value)?)?)
}

/// As the document of v2 is written.
fn plain(value: &Value) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

fn schemas(document: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let all = document.get("components").and_then(|components| components.get("schemas")).and_then(Value::as_object);
    all.map(|all| all.iter().collect()).unwrap_or_default()
}
