package fatturapa

import "slices"

// kinds is a set of flows to which a rule applies.
type kinds uint8

const (
	public     kinds = 1 << iota // FPA12
	private                      // FPR12
	simplified                   // FSM10
	ordinary   = public | private
	everyKind  = ordinary | simplified
)

// rule is one control. A code may have several rows when the ordinary and the
// simplified format need different checks.
type rule struct {
	code      string
	kinds     kinds
	severity  Severity
	from      int  // first day in force, 0 for always
	until     int  // last day, 0 for open
	authority bool // only a register can decide: listed, not run
	message   Text
	hint      Text
	clause    string
	file      func(c *check)
	each      func(c *check, b *Body)
}

func (r *rule) inForce(day int) bool {
	return day == 0 && r.until == 0 || day != 0 && day >= r.from && (r.until == 0 || day <= r.until)
}

// rules is the table of all controls, in order of code within each part.
var rules = slices.Concat(fileRules, partyRules, documentRules, lineRules, summaryRules, lotRules, registerRules)

// RuleInfo describes a rule for documentation and for the coverage table.
type RuleInfo struct {
	Code           string
	Formats        []string // "FPA12", "FPR12", "FSM10"
	Severity       Severity
	From, Until    int // days in force, as YYYYMMDD; 0 is open
	NeedsAuthority bool
	Message        Text
	Hint           Text
	Clause         string
}

// Rules lists every rule that this package knows, in the order in which they run.
func Rules() []RuleInfo {
	out := make([]RuleInfo, 0, len(rules))
	for i := range rules {
		r := &rules[i]
		info := RuleInfo{Code: r.code, Severity: r.severity, From: r.from, Until: r.until,
			NeedsAuthority: r.authority, Message: r.message, Hint: r.hint, Clause: r.clause}
		for _, k := range []struct {
			kind kinds
			name string
		}{{public, "FPA12"}, {private, "FPR12"}, {simplified, "FSM10"}} {
			if r.kinds&k.kind != 0 {
				info.Formats = append(info.Formats, k.name)
			}
		}
		out = append(out, info)
	}
	return out
}

// authority holds the codes of the register rules by flow and pack, made once.
var authority = buildAuthority()

type authorityKey struct {
	kind kinds
	pack string
}

func buildAuthority() map[authorityKey][]string {
	m := map[authorityKey][]string{}
	for _, p := range rulePacks {
		for _, k := range []kinds{public, private, simplified} {
			key := authorityKey{k, p.name}
			for i := range rules {
				r := &rules[i]
				if r.authority && r.kinds&k != 0 && r.inForce(max(p.from, 1)) && !slices.Contains(m[key], r.code) {
					m[key] = append(m[key], r.code)
				}
			}
		}
	}
	return m
}

// authorityCodes lists the controls that apply to a file and that only SdI decides.
func authorityCodes(f *File, day int) []string {
	return authority[authorityKey{kindOf(f), packAt(day).name}]
}
