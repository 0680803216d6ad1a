package conservation

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// What is looked for and what is found are compared without case, accents, spaces and apostrophes; names without any
// punctuation: S.r.l. is SRL, D'Angelo is dangelo and d angelo, De Luca is DeLuca.

// longestKey of folded text, in bytes: what is longer is the same from there on.
const longestKey = 120

// plainLetters are those that are no letter with an accent to Unicode, and are to people.
var plainLetters = strings.NewReplacer("ø", "o", "ł", "l", "đ", "d", "ð", "d", "ħ", "h", "ı", "i", "æ", "ae", "œ", "oe", "þ", "th")

// unaccented gives text without case and accents.
func unaccented(s string) string {
	s = norm.NFKD.String(cases.Fold().String(norm.NFKC.String(s)))
	s = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, s)
	return plainLetters.Replace(s)
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// foldName keeps letters and digits alone.
func foldName(s string) string {
	return shorten(strings.Map(func(r rune) rune {
		if isWord(r) {
			return r
		}
		return -1
	}, unaccented(s)))
}

// foldCode keeps punctuation that tells numbers and file names apart: 1/2 is not 12.
func foldCode(s string) string {
	return shorten(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("'’‘`´", r) {
			return -1
		}
		return r
	}, unaccented(s)))
}

// shorten cuts at a whole character.
func shorten(s string) string {
	if len(s) <= longestKey {
		return s
	}
	return strings.ToValidUTF8(s[:longestKey], "")
}

// mostWords of a name that can be found; what names more is a sentence.
const mostWords = 24

// nameKeys are a name, folded, from each of its words to its end.
func nameKeys(name string) []string {
	text := []rune(unaccented(name))
	var keys []string
	for i, r := range text {
		if isWord(r) && (i == 0 || !isWord(text[i-1])) {
			keys = append(keys, foldName(string(text[i:])))
		}
		if len(keys) == mostWords {
			break
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// wanted are the beginnings that a value asks of the keys of one name: the whole value as one word, or each of its words.
func wanted(value string) (whole string, words []string) {
	for _, w := range strings.Fields(value) {
		if w = foldName(w); w != "" {
			words = append(words, w)
		}
	}
	return foldName(value), words
}

// Numbers of parties are kept among the words of names, behind marks that no name can hold.
const (
	vatMark  = "=v"
	codeMark = "=c"
)

// keys are everything by which a party is found.
func (p party) keys() []string {
	keys := nameKeys(p.Name)
	if vat := foldName(p.VAT); vat != "" {
		keys = append(keys, vatMark+vat)
		if vatForm.MatchString(p.VAT) { // with or without its country
			keys = append(keys, vatMark+foldName(p.VAT[2:]))
		}
	}
	if code := foldName(p.TaxCode); code != "" {
		keys = append(keys, codeMark+code)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
