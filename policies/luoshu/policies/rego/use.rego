# METADATA
# title: Use of a data product under a digital contract
# description: >-
#   Decides one use. Denies unless the agreement is active, a permission covers the action with
#   every constraint of it holding, and no prohibition applies. What can't be understood (an
#   unknown operand, operator or action, a value of the wrong type, a missing field) never
#   permits and, in a prohibition, forbids.
#
#   Times are integers, milliseconds since 1970-01-01T00:00:00Z, put in by the node: the policy
#   reads no clock and calls no built-in that a host would have to provide, so that the same
#   input gives the same decision anywhere.
package luoshu.use

# The answer: `{"allow": bool, "reasons": [{"rule": …, "message": …}]}`. Reasons are there
# exactly when the use is denied, in the order of their rule names. What allows is derived by
# itself, never from the absence of reasons: an undefined expression in a reason must not open.
decision := {
	"allow": allow,
	"reasons": [{"rule": rule, "message": messages[rule]} | some rule in sort(denials)],
}

default allow := false

allow if {
	agreement_active
	permitted
	not_prohibited
}

messages := {
	"action": "No permission of the contract covers this action.",
	"agreement_state": "The agreement is not active.",
	"count": "The contract's number of uses doesn't allow another one.",
	"prohibition": "A prohibition of the contract covers this use.",
	"purpose": "The contract doesn't permit this purpose.",
	"region": "The contract doesn't permit use from the consumer's jurisdiction.",
	"terms": "The contract's terms hold a constraint that can't be decided.",
	"validity": "The contract's period of validity doesn't cover this time.",
}

denials contains "agreement_state" if not agreement_active

denials contains "action" if {
	not permitted
	count(covering) == 0
}

denials contains rule if {
	not permitted
	some permission in covering
	some constraint in constraints(permission)
	rule := rule_of(constraint)
}

# A covering permission whose constraints aren't even a list.
denials contains "terms" if {
	not permitted
	some permission in covering
	not is_array(constraints(permission))
}

denials contains "prohibition" if not not_prohibited

default agreement_active := false

agreement_active if input.agreement.state == "ACTIVE"

# ---- permissions

default permitted := false

permitted if {
	some permission in covering
	is_array(constraints(permission))
	every constraint in constraints(permission) {
		outcome(constraint) == "holds"
	}
}

covering := [permission |
	is_array(input.terms.permission)
	some permission in input.terms.permission
	permission.action == input.request.action
	input.request.action in actions
]

constraints(rule) := object.get(rule, "constraint", [])

# Actions that this policy can tell apart. A prohibition of any other might include this one.
actions := {"compute"}

# ---- prohibitions

default not_prohibited := false

not_prohibited if {
	prohibitions := object.get(input, ["terms", "prohibition"], [])
	is_array(prohibitions)
	every prohibition in prohibitions {
		spared(prohibition)
	}
}

# The prohibition is of another action.
spared(prohibition) if {
	prohibition.action in actions
	prohibition.action != input.request.action
}

# Everything in it is understood, and one constraint doesn't hold.
spared(prohibition) if {
	prohibition.action in actions
	is_array(constraints(prohibition))
	every constraint in constraints(prohibition) {
		outcome(constraint) != "unknown"
	}
	some constraint in constraints(prohibition)
	outcome(constraint) == "fails"
}

# ---- constraints

# The rule that a constraint breaks; undefined when it holds.
rule_of(constraint) := rules[constraint.leftOperand] if {
	outcome(constraint) == "fails"
} else := "terms" if {
	outcome(constraint) == "unknown"
}

rules := {
	"count": "count",
	"dateTime": "validity",
	"purpose": "purpose",
	"region": "region",
}

# "holds", "fails", or "unknown" when it can't be understood. Always defined: a `not` around an
# undefined value would not mean what it says.
outcome(constraint) := "holds" if {
	understood(constraint)
	holds(left[constraint.leftOperand], constraint.operator, constraint.rightOperand)
} else := "fails" if {
	understood(constraint)
} else := "unknown"

# What the left operands stand for. `count` is the ordinal of the use being decided.
left["purpose"] := input.request.purpose if is_string(input.request.purpose)

left["dateTime"] := input.now_ms if is_number(input.now_ms)

left["count"] := input.meters.uses + 1 if {
	is_number(input.meters.uses)
	input.meters.uses >= 0
}

left["region"] := input.consumer.jurisdiction if is_string(input.consumer.jurisdiction)

# Rego orders values of different types (every number is less than every string), so types are
# checked before anything is compared.
understood(constraint) if {
	is_number(left[constraint.leftOperand])
	constraint.operator in {"eq", "neq", "gt", "gteq", "lt", "lteq", "isA"}
	is_number(constraint.rightOperand)
}

understood(constraint) if {
	is_string(left[constraint.leftOperand])
	constraint.operator in {"eq", "neq", "isA", "isPartOf", "hasPart"}
	is_string(constraint.rightOperand)
}

understood(constraint) if {
	is_number(left[constraint.leftOperand])
	constraint.operator in {"isAnyOf", "isNoneOf", "isAllOf"}
	is_array(constraint.rightOperand)
	every value in constraint.rightOperand {
		is_number(value)
	}
}

understood(constraint) if {
	is_string(left[constraint.leftOperand])
	constraint.operator in {"isAnyOf", "isNoneOf", "isAllOf", "isPartOf", "hasPart"}
	is_array(constraint.rightOperand)
	every value in constraint.rightOperand {
		is_string(value)
	}
}

holds(value, "eq", right) if value == right

holds(value, "isA", right) if value == right

holds(value, "neq", right) if value != right

holds(value, "gt", right) if value > right

holds(value, "gteq", right) if value >= right

holds(value, "lt", right) if value < right

holds(value, "lteq", right) if value <= right

holds(value, "isAnyOf", right) if value in right

holds(value, "isNoneOf", right) if not value in right

# Of a single value: it is every one of them, and there is at least one.
holds(value, "isAllOf", right) if {
	count(right) > 0
	every one in right {
		value == one
	}
}

holds(value, "isPartOf", right) if {
	is_string(right)
	part_of(value, right)
}

holds(value, "isPartOf", right) if {
	is_array(right)
	some whole in right
	part_of(value, whole)
}

holds(value, "hasPart", right) if {
	is_string(right)
	part_of(right, value)
}

holds(value, "hasPart", right) if {
	is_array(right)
	count(right) > 0
	every part in right {
		part_of(part, value)
	}
}

# Codes nest by hyphens, as in ISO 3166-2: CN-HA is part of CN.
part_of(part, whole) if part == whole

part_of(part, whole) if {
	whole != ""
	startswith(part, concat("", [whole, "-"]))
}
