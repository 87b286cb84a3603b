//! Whether a piece of JSON is what a schema of the API's description says, and nothing that it does not say. Knows the words that the
//! description uses, and stumbles over any other.

use serde_json::Value;

/// Everything about `value` that is not as `schema` says, each with its place.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(document, schema, value, "", &mut faults);
    faults
}

/// What a `$ref` of the description refers to.
pub(crate) fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("{path} refers to nothing")),
        None => schema,
    }
}

fn check(document: &Value, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
    if schema.get("$ref").is_some() {
        return check(document, resolve(document, schema), value, place, faults);
    }
    let mut demand = |holds: bool, rule: &str| {
        if !holds {
            faults.push(format!("{place}: {value} is not {rule} {}", schema[rule]));
        }
    };
    for (word, rule) in schema.as_object().unwrap() {
        let number = || (value.as_f64().unwrap_or_default(), rule.as_f64().unwrap());
        let holds = match word.as_str() {
            "type" => rule.as_str().map_or_else(|| rule.as_array().unwrap().iter().any(|one| is(value, one)), |_| is(value, rule)),
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.is_null() || number().0 >= number().1,
            "maximum" => value.is_null() || number().0 <= number().1,
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 >= rule.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|list| list.len() as f64 >= rule.as_f64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|list| list.len() as f64 <= rule.as_f64().unwrap()),
            "format" => value.as_str().is_none_or(|text| has_format(text, rule.as_str().unwrap())),
            "anyOf" => rule.as_array().unwrap().iter().any(|one| self::faults(document, one, value).is_empty()),
            "required" => rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            // Told by the real tester, which has an engine for patterns.
            "pattern" | "description" | "default" | "examples" | "properties" | "items" | "additionalProperties" => true,
            other => panic!("{place}: this test does not know the word {other}"),
        };
        demand(holds, word);
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{place}/{index}"), faults);
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let place = format!("{place}/{name}");
        match schema["properties"].get(name).or(schema.get("additionalProperties")) {
            Some(schema) => check(document, schema, field, &place, faults),
            None if schema.get("properties").is_some() => faults.push(format!("{place}: is not described")),
            None => {}
        }
    }
}

fn is(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("this test does not know the type {other}"),
    }
}

fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" => text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(),
        "uuid" => text.parse::<uuid::Uuid>().is_ok(),
        other => panic!("this test does not know the format {other}"),
    }
}
