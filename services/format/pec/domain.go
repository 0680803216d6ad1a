package pec

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// person is an address by which one recipient is told from another: alone, though a provider wrote a name beside it, in lower
// case, its domain as DNS has it. What is no address stays as it is.
func person(s string) string {
	s = strings.TrimSpace(s)
	if !strings.ContainsFunc(s, beyondPlain) {
		return strings.ToLower(s) // as nearly all are: a message to thousands has many
	}
	if list := ParseAddresses(s); len(list) == 1 && list[0].Addr != "" {
		s = list[0].Addr
	}
	at := strings.LastIndexByte(s, '@') + 1
	return strings.ToLower(s[:at]) + asciiDomain(s[at:])
}

// beyondPlain: what an address in the form that providers write has not.
func beyondPlain(r rune) bool {
	return r >= utf8.RuneSelf || r <= ' ' || strings.ContainsRune("<>()\",:;\\", r)
}

// asciiDomain is a domain in lower case, labels beyond ASCII as DNS has them (xn--). What cannot be written so stays as it
// is. spec: RFC5891 §4.4, RFC3492
func asciiDomain(domain string) string {
	domain = strings.TrimSpace(domain)
	if !strings.ContainsFunc(domain, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return strings.ToLower(domain)
	}
	labels := strings.Split(strings.ToLower(norm.NFC.String(domain)), ".")
	for i, label := range labels {
		if strings.ContainsFunc(label, func(r rune) bool { return r >= utf8.RuneSelf }) && utf8.ValidString(label) && len(label) < 256 {
			labels[i] = "xn--" + punycode(label)
		}
	}
	return strings.Join(labels, ".")
}

// The parameters of the encoding. spec: RFC3492 §5
const (
	punyBase, punyTMin, punyTMax = 36, 1, 26
	punySkew, punyDamp           = 38, 700
	punyBias, punyFirst          = 72, 0x80
)

// punycode writes a label in ASCII. spec: RFC3492 §6.3
func punycode(label string) string {
	var out []byte
	input := []rune(label)
	for _, r := range input {
		if r < punyFirst {
			out = append(out, byte(r))
		}
	}
	basic := len(out)
	if basic > 0 {
		out = append(out, '-')
	}
	n, delta, bias := rune(punyFirst), 0, punyBias
	for done := basic; done < len(input); {
		next := rune(utf8.MaxRune)
		for _, r := range input {
			if r >= n {
				next = min(next, r)
			}
		}
		delta += int(next-n) * (done + 1)
		n = next
		for _, r := range input {
			switch {
			case r < n:
				delta++
			case r == n:
				out = punyNumber(out, delta, bias)
				bias = punyAdapt(delta, done+1, done == basic)
				delta = 0
				done++
			}
		}
		delta++
		n++
	}
	return string(out)
}

// punyNumber writes a number of variable length. spec: RFC3492 §3.3
func punyNumber(out []byte, number, bias int) []byte {
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	for k := punyBase; ; k += punyBase {
		t := min(max(k-bias, punyTMin), punyTMax)
		if number < t {
			return append(out, digits[number])
		}
		out = append(out, digits[t+(number-t)%(punyBase-t)])
		number = (number - t) / (punyBase - t)
	}
}

// punyAdapt is the next bias. spec: RFC3492 §3.4
func punyAdapt(delta, count int, first bool) int {
	if first {
		delta /= punyDamp
	} else {
		delta /= 2
	}
	delta += delta / count
	k := 0
	for ; delta > (punyBase-punyTMin)*punyTMax/2; k += punyBase {
		delta /= punyBase - punyTMin
	}
	return k + (punyBase-punyTMin+1)*delta/(delta+punySkew)
}
