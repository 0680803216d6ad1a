package validation

import "time"

// ReliedOn says until when the keys of an algorithm (RSA, ECDSA, EdDSA) and size in bits are relied on by a
// policy: the zero time has no end. known is false for what the policy does not name.
func ReliedOn(policy []Limit, algorithm string, bits int) (until time.Time, known bool) {
	for _, l := range policy {
		if l.Name == algorithm && (l.Below == 0 || bits < l.Below) {
			return l.Until, true
		}
	}
	return time.Time{}, false
}
