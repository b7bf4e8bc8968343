"""The contract is one JSON Schema document that is read back as it was, and says what is wrong with an edited one."""

import copy
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reviewapp.contract import Contract, Outcome
from reviewapp.errors import ContractError
from reviewapp.field import Field

from .conftest import EVERY_KIND

MARKED = Contract(
    name="marked",
    fields=(Field(name="rooms", kind="integer", nullable=True, missing=("?", "n/a")),),
    outcome=Outcome(name="price", task="regression", maximum=9),
)
REGRESSION = Contract(
    name="price",
    fields=(Field(name="rooms", kind="number"),),
    outcome=Outcome(name="price", task="regression", unit="€", minimum=0),
)


@pytest.mark.parametrize("contract", [EVERY_KIND, REGRESSION, MARKED], ids=lambda c: c.name)
def test_a_contract_survives_being_written_and_read(contract: Contract) -> None:
    document = json.loads(json.dumps(contract.as_json()))
    again = Contract.from_json(document)
    assert again.as_json() == contract.as_json()
    assert again.outcome == contract.outcome


def test_the_document_is_a_json_schema_that_other_tools_take() -> None:
    Draft202012Validator.check_schema(EVERY_KIND.as_json())
    Draft202012Validator.check_schema(EVERY_KIND.outcome.as_schema())
    Draft202012Validator.check_schema(REGRESSION.outcome.as_schema())
    assert REGRESSION.outcome.as_schema()["properties"]["value"] == {"type": "number", "minimum": 0}
    assert MARKED.outcome.as_schema()["properties"]["value"] == {"type": "number", "maximum": 9}


def test_a_date_format_is_said_as_people_write_it() -> None:
    assert [field.date_words for field in EVERY_KIND.fields if field.name == "日付"] == ["DD.MM.YYYY"]


def test_every_property_has_a_type_and_null_is_a_second_one() -> None:
    properties = EVERY_KIND.as_json()["properties"]
    assert list(properties) == list(EVERY_KIND.names)
    assert properties["class"]["type"] == "integer"
    assert properties["x.y"]["type"] == ["integer", "null"]
    assert properties[""]["enum"] == ["x", "y", None]
    assert all("anyOf" not in schema for schema in properties.values())


def set_at(path: str, value: Any) -> Any:
    def edit(document: dict[str, Any]) -> None:
        *parents, last = path.split("|")
        for name in parents:
            document = document[name]
        document[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        (set_at("$schema", "draft-04"), "$schema"),
        (set_at("type", "array"), "type"),
        (set_at("properties", []), "properties"),
        (set_at("additionalProperties", True), "additionalProperties"),
        (set_at("required", ["nope"]), "nope"),
        (set_at("$id", "urn:reviewapp:contract:Big Name"), "a-z"),
        (set_at("x-reviewapp-output", None), "x-reviewapp-output"),
        (set_at("x-reviewapp-output|labels", ["one"]), "two different labels"),
        (set_at("x-reviewapp-output|task", "guess"), "classification or regression"),
        (set_at("x-reviewapp-output|more", 1), "x-reviewapp-output"),
        (set_at("properties|class", 3), "class"),
        (set_at("properties|class|x-reviewapp-kind", "int"), "x-reviewapp-kind"),
        (set_at("properties|class|type", "string"), "class"),
        (set_at("properties|class|minimum", "0"), "class"),
        (set_at("properties|class|minimum", 1e30), "minimum is above maximum"),
        (set_at("properties|class|const", 1), "const"),
        (set_at("properties|class|x-reviewapp-seen", {"minimum": 1}), "go together"),
        (set_at("properties|class|x-reviewapp-seen", {"minimum": "a", "maximum": "b"}), "must be numbers"),
        (set_at("properties|class|x-reviewapp-seen", {"values": ["a"]}), "seen values"),
        (set_at("properties|class|x-reviewapp-seen", 3), "x-reviewapp-seen"),
        (set_at("properties|a/b~c|enum", ["red", "red"]), "different texts"),
        (set_at("properties|a/b~c|enum", "red"), "enum must be a list"),
        (set_at("properties|text|maxLength", 0), "maxLength"),
        (set_at("properties|text|title", 3), "title"),
        (set_at("properties|day|x-reviewapp-date-format", "%H"), "date format"),
        (set_at("properties|day|x-reviewapp-seen", {"minimum": "1.1.20", "maximum": "2"}), "date format"),
        (lambda document: document["required"].remove("text"), "allow null"),
        (set_at("properties|class|x-reviewapp-missing", "?"), "lists of texts"),
        (set_at("properties|class|x-reviewapp-seen", {"values": "a"}), "lists of texts"),
        (set_at("title", 3), "title and description are texts"),
        (set_at("description", ["a"]), "title and description are texts"),
        (set_at("x-reviewapp-missing", "?"), "list of different texts"),
        (set_at("x-reviewapp-missing", ["?", "?"]), "list of different texts"),
        (set_at("x-reviewapp-output|title", 3), "name, title and unit are texts"),
        (set_at("x-reviewapp-output|minimum", True), "the smaller one first"),
        (set_at("x-reviewapp-output|minimum", 1e30), "the smaller one first"),
        (set_at("x-reviewapp-output|missing", ["?", "?"]), "missing is a list of different texts"),
        (set_at("x-reviewapp-output|task", "regression"), "no labels"),
    ],
)
def test_an_edited_contract_that_cannot_be_used_is_refused_with_the_place(edit: Any, names: str) -> None:
    document = copy.deepcopy(EVERY_KIND.as_json())
    edit(document)
    with pytest.raises(ContractError) as refused:
        Contract.from_json(document)
    assert names in refused.value.detail


@pytest.mark.parametrize("document", [None, [], "contract", 3])
def test_what_is_no_object_is_no_contract(document: object) -> None:
    with pytest.raises(ContractError):
        Contract.from_json(document)


def test_two_fields_of_one_name_and_no_field_are_refused() -> None:
    field, outcome = Field(name="a", kind="text"), Outcome(name="o", labels=("x", "y"))
    with pytest.raises(ContractError, match="'a'"):
        Contract(name="c", fields=(field, field), outcome=outcome)
    with pytest.raises(ContractError, match="at least one field"):
        Contract(name="c", fields=(), outcome=outcome)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("number", 1, None),
        ("number", 1.01, "1.01 is above 0…1 seen in training"),
        ("number", -0.5, "-0.5 is below 0…1 seen in training"),
        ("a number?", 1e9, None),
        ("class", 12, None),
        ("class", 13, "13 is above 0…12 seen in training"),
        ("open list", "1", None),
        ("open list", "2", "this value is none of those seen in training"),
        ("text", "", "a length of 0 is below 1…30 seen in training"),
        ("text", "x" * 30, None),
        ("day", "2024-12-31", None),
        ("day", "2025-01-01", "2025-01-01 is above 2020-01-01…2024-12-31 seen in training"),
        ("Meta", True, None),
        ("x.y", None, None),
    ],
)
def test_what_training_did_not_see_is_said_in_words(name: str, value: Any, says: str | None) -> None:
    [field] = [field for field in EVERY_KIND.fields if field.name == name]
    assert field.outside_seen(value) == says
