package provider

import "fmt"

// Meaning is what an answer of a provider means, in words that a configuration can say.
type Meaning string

// The meanings.
const (
	MeansWrong    Meaning = "wrong"    // PIN or one-time password
	MeansLocked   Meaning = "locked"   // PIN or device
	MeansUnknown  Meaning = "unknown"  // no such user, device or certificate
	MeansDisabled Meaning = "disabled" // suspended, revoked, expired
	MeansSpent    Meaning = "spent"    // session over
	MeansAccount  Meaning = "account"  // our own account
	MeansBusy     Meaning = "busy"     // nothing was done: again later
)

// Codes says what the codes in a provider's answers mean. Public material tells of few; a provider's
// manual, which comes with the contract, tells of the others: the configuration adds them.
type Codes map[string]Meaning

// Valid says whether the meaning is one of the list.
func (m Meaning) Valid() bool {
	switch m {
	case MeansWrong, MeansLocked, MeansUnknown, MeansDisabled, MeansSpent, MeansAccount, MeansBusy:
		return true
	}
	return false
}

// With is the codes with others added, which come first.
func (c Codes) With(more Codes) Codes {
	out := Codes{}
	for k, v := range c {
		out[k] = v
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// Error is the error for a code that the provider answered. A code that nobody has explained is Refused
// PROVIDER_UNDOCUMENTED: the provider has answered no, and why is not known.
func (c Codes) Error(code string) *Error {
	said := fmt.Sprintf("(the provider's code %q)", code)
	switch c[code] {
	case MeansWrong:
		return Errorf(UserFault, FactorsWrong, "PIN or one-time password is not right: wait for the next password before you try again")
	case MeansLocked:
		return Errorf(UserFault, FactorsLocked, "the provider has locked the PIN or the device: unlock it there %s", said)
	case MeansUnknown:
		return Errorf(Refused, CredentialUnknown, "the provider knows no such user, device or certificate %s", said)
	case MeansDisabled:
		return Errorf(Refused, CredentialDisabled, "the provider does not sign with this certificate any more %s", said)
	case MeansSpent:
		return Errorf(Refused, GrantSpent, "the session at the provider is over: begin anew %s", said)
	case MeansAccount:
		return Errorf(Refused, AccountRefused, "the provider does not take the account of this installation %s", said)
	case MeansBusy:
		return Errorf(Busy, Away, "the provider is busy: try again %s", said)
	}
	return Errorf(Refused, Undocumented, "the provider refused with the code %q, which public material does not explain: add its meaning to `codes` of the provider in the configuration", code)
}
