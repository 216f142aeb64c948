package luoshu.use_test

import data.luoshu.use

base := {
	"schema": "luoshu/decision-input/v1",
	"now_ms": 1790000000000,
	"request": {"id": "urn:uuid:1", "action": "compute", "purpose": "research"},
	"terms": {"permission": [{
		"action": "compute",
		"constraint": [
			{"leftOperand": "purpose", "operator": "isAnyOf", "rightOperand": ["research", "teaching"]},
			{"leftOperand": "dateTime", "operator": "gteq", "rightOperand": 1780000000000},
			{"leftOperand": "dateTime", "operator": "lteq", "rightOperand": 1800000000000},
			{"leftOperand": "count", "operator": "lteq", "rightOperand": 5},
			{"leftOperand": "region", "operator": "isPartOf", "rightOperand": ["CN"]},
		],
	}]},
	"agreement": {"state": "ACTIVE"},
	"meters": {"uses": 4},
	"consumer": {"id": "urn:luoshu:s:a", "jurisdiction": "CN-HA"},
}

with_path(path, value) := json.patch(base, [{"op": "add", "path": path, "value": value}])

with_constraint(constraint) := with_path("/terms/permission/0/constraint/0", constraint)

with_prohibition(prohibition) := with_path("/terms/prohibition", [prohibition])

denied(answer, rules) if {
	answer.allow == false
	[reason.rule | some reason in answer.reasons] == rules
	every reason in answer.reasons {
		count(reason.message) > 0
	}
}

test_allowed if {
	use.decision == {"allow": true, "reasons": []} with input as base
}

test_allowed_without_constraints if {
	use.decision.allow with input as with_path("/terms/permission", [{"action": "compute"}])
}

test_empty_input_denied if {
	answer := use.decision with input as {}
	denied(answer, ["action", "agreement_state"])
}

test_every_state_but_active_denied if {
	every state in ["SUSPENDED", "EXPIRED", "REVOKED", "ENDED", "COMPLETED", "active", null] {
		answer := use.decision with input as with_path("/agreement/state", state)
		denied(answer, ["agreement_state"])
	}
}

test_action_not_permitted if {
	every action in ["download", "use", "", null] {
		answer := use.decision with input as with_path("/request/action", action)
		denied(answer, ["action"])
	}
}

# Both agree, but this policy knows nothing of the action.
test_unknown_action_denied if {
	answer := use.decision with input as json.patch(base, [
		{"op": "add", "path": "/request/action", "value": "sell"},
		{"op": "add", "path": "/terms/permission/0/action", "value": "sell"},
	])
	denied(answer, ["action"])
}

test_purpose_not_permitted if {
	answer := use.decision with input as with_path("/request/purpose", "marketing")
	denied(answer, ["purpose"])
}

test_missing_facts_denied if {
	answer := use.decision with input as json.remove(
		base,
		["/request/purpose", "/now_ms", "/meters", "/consumer"],
	)
	denied(answer, ["terms"])
}

test_validity_bounds_included if {
	use.decision.allow with input as with_path("/now_ms", 1780000000000)
	use.decision.allow with input as with_path("/now_ms", 1800000000000)
}

test_outside_validity_denied if {
	early := use.decision with input as with_path("/now_ms", 1779999999999)
	denied(early, ["validity"])
	late := use.decision with input as with_path("/now_ms", 1800000000001)
	denied(late, ["validity"])
}

test_count_is_that_of_this_use if {
	use.decision.allow with input as with_path("/meters/uses", 4)
	answer := use.decision with input as with_path("/meters/uses", 5)
	denied(answer, ["count"])
}

test_negative_meter_denied if {
	answer := use.decision with input as with_path("/meters/uses", -1)
	denied(answer, ["terms"])
}

test_region if {
	use.decision.allow with input as with_path("/consumer/jurisdiction", "CN")
	every elsewhere in ["DE", "CNX", "C", "", "CN_HA"] {
		answer := use.decision with input as with_path("/consumer/jurisdiction", elsewhere)
		denied(answer, ["region"])
	}
}

test_all_failing_rules_are_named if {
	answer := use.decision with input as json.patch(base, [
		{"op": "add", "path": "/request/purpose", "value": "marketing"},
		{"op": "add", "path": "/meters/uses", "value": 5},
		{"op": "add", "path": "/now_ms", "value": 0},
		{"op": "add", "path": "/consumer/jurisdiction", "value": "DE"},
		{"op": "add", "path": "/agreement/state", "value": "REVOKED"},
	])
	denied(answer, ["agreement_state", "count", "purpose", "region", "validity"])
}

test_one_holding_permission_is_enough if {
	use.decision.allow with input as with_path("/terms/permission/0", {
		"action": "compute",
		"constraint": [{"leftOperand": "purpose", "operator": "eq", "rightOperand": "marketing"}],
	})
}

# What isn't understood never permits.
test_not_understood_denied if {
	every constraint in [
		{"leftOperand": "payAmount", "operator": "eq", "rightOperand": 1},
		{"leftOperand": "purpose", "operator": "like", "rightOperand": "research"},
		{"leftOperand": "purpose", "operator": "lteq", "rightOperand": "research"},
		{"leftOperand": "purpose", "operator": "neq", "rightOperand": 1},
		{"leftOperand": "purpose", "operator": "isNoneOf", "rightOperand": "marketing"},
		{"leftOperand": "purpose", "operator": "isNoneOf", "rightOperand": ["marketing", 1]},
		{"leftOperand": "purpose", "operator": "neq"},
		{"leftOperand": "dateTime", "operator": "lt", "rightOperand": "2030-01-01T00:00:00Z"},
		{"leftOperand": "count", "operator": "lteq", "rightOperand": "5"},
		{"leftOperand": "count", "operator": "isPartOf", "rightOperand": [5]},
		{"operator": "eq", "rightOperand": "research"},
		{},
		"purpose eq research",
		null,
	] {
		answer := use.decision with input as with_constraint(constraint)
		denied(answer, ["terms"])
	}
}

test_constraints_that_are_no_list_denied if {
	every constraints in [null, {}, "none", 1] {
		answer := use.decision with input as with_path("/terms/permission/0/constraint", constraints)
		denied(answer, ["terms"])
	}
}

test_permissions_that_are_no_list_denied if {
	every permissions in [null, {"0": {"action": "compute"}}, "compute", 1] {
		answer := use.decision with input as with_path("/terms/permission", permissions)
		denied(answer, ["action"])
	}
}

test_operators_hold if {
	every case in [
		["purpose", "eq", "research"],
		["purpose", "isA", "research"],
		["purpose", "neq", "marketing"],
		["purpose", "isAnyOf", ["teaching", "research"]],
		["purpose", "isNoneOf", ["marketing"]],
		["purpose", "isNoneOf", []],
		["purpose", "isAllOf", ["research"]],
		["purpose", "isAllOf", ["research", "research"]],
		["region", "isPartOf", "CN"],
		["region", "isPartOf", ["DE", "CN"]],
		["region", "hasPart", "CN-HA-01"],
		["region", "hasPart", ["CN-HA", "CN-HA-01"]],
		["count", "eq", 5],
		["count", "gt", 4],
		["count", "gteq", 5],
		["count", "lt", 6],
		["count", "isAnyOf", [4, 5]],
		["count", "isNoneOf", [6]],
		["count", "isAllOf", [5]],
	] {
		use.decision.allow with input as with_constraint({
			"leftOperand": case[0],
			"operator": case[1],
			"rightOperand": case[2],
		})
	}
}

test_operators_fail if {
	every case in [
		["purpose", "eq", "Research"],
		["purpose", "isA", "teaching"],
		["purpose", "neq", "research"],
		["purpose", "isAnyOf", []],
		["purpose", "isNoneOf", ["research"]],
		["purpose", "isAllOf", []],
		["purpose", "isAllOf", ["research", "teaching"]],
		["region", "isPartOf", "CN-HA-01"],
		["region", "isPartOf", []],
		["region", "isPartOf", ""],
		["region", "hasPart", "CN"],
		["region", "hasPart", []],
		["region", "hasPart", ["CN-HA", "CN"]],
		["count", "eq", 4],
		["count", "gt", 5],
		["count", "gteq", 6],
		["count", "lt", 5],
		["count", "isAnyOf", [4]],
		["count", "isNoneOf", [5]],
		["count", "isAllOf", [4, 5]],
	] {
		answer := use.decision with input as with_constraint({
			"leftOperand": case[0],
			"operator": case[1],
			"rightOperand": case[2],
		})
		denied(answer, [{"count": "count", "purpose": "purpose", "region": "region"}[case[0]]])
	}
}

test_prohibition_wins if {
	answer := use.decision with input as with_prohibition({"action": "compute"})
	denied(answer, ["prohibition"])
}

test_prohibition_applies_when_its_constraints_hold if {
	answer := use.decision with input as with_prohibition({
		"action": "compute",
		"constraint": [{"leftOperand": "region", "operator": "eq", "rightOperand": "CN-HA"}],
	})
	denied(answer, ["prohibition"])
}

test_prohibition_spares_what_it_doesnt_cover if {
	use.decision.allow with input as with_prohibition({
		"action": "compute",
		"constraint": [
			{"leftOperand": "purpose", "operator": "eq", "rightOperand": "research"},
			{"leftOperand": "region", "operator": "eq", "rightOperand": "DE"},
		],
	})
	use.decision.allow with input as with_path("/terms/prohibition", [])
}

test_prohibition_of_another_action_spares if {
	answer := use.decision with input as json.patch(base, [
		{"op": "add", "path": "/request/action", "value": "download"},
		{"op": "add", "path": "/terms/prohibition", "value": [{"action": "compute"}]},
	])
	denied(answer, ["action"])
}

# What isn't understood forbids.
test_prohibition_not_understood_applies if {
	not_holding := {"leftOperand": "region", "operator": "eq", "rightOperand": "DE"}
	every prohibition in [
		{"action": "use"},
		{"action": "distribute"},
		{"constraint": [not_holding]},
		{"action": "compute", "constraint": [not_holding, {"leftOperand": "payAmount"}]},
		{"action": "compute", "constraint": {"0": not_holding}},
		{"action": "compute", "constraint": null},
		{"action": "compute", "constraint": []},
		"compute",
		null,
	] {
		answer := use.decision with input as with_prohibition(prohibition)
		denied(answer, ["prohibition"])
	}
}

test_prohibitions_that_are_no_list_deny if {
	every prohibitions in [null, {}, {"0": {"action": "compute"}}, "compute", 1] {
		answer := use.decision with input as with_path("/terms/prohibition", prohibitions)
		denied(answer, ["prohibition"])
	}
}
