package render

import (
	"strings"

	"ceralacca.dev/services/format/fatturapa"
)

// kind says how a value is written, and how a block is shown.
type kind uint8

const (
	kindText     kind = iota
	kindMoney         // at least two decimals
	kindRate          // per cent
	kindQuantity      // as many decimals as it has
	kindDate
	kindTime    // date and time
	kindGroup   // a block whose children are shown in its place
	kindID      // country and code, or kind and code, in one line
	kindAddress // in one line
	kindChange  // a discount or surcharge, in one line
)

// number reports whether values of a kind are set to the right.
func (k kind) number() bool { return k == kindMoney || k == kindRate || k == kindQuantity }

// value writes a value for people to read; one that is not what it should be is
// written as it stands in the file.
func (v *view) value(k kind, s string) {
	t := strings.TrimSpace(s)
	switch k {
	case kindMoney:
		v.number(t, 2, "")
	case kindQuantity:
		v.number(t, 0, "")
	case kindRate:
		v.number(t, 2, "\u00a0%")
	case kindDate:
		v.date(t)
	case kindTime:
		day, clock, ok := strings.Cut(t, "T")
		v.date(day)
		if ok {
			v.out.text(" ")
			v.out.text(clock)
		}
	default:
		v.out.text(s)
	}
}

// number writes a decimal with separators of the language and all its decimals;
// zeros at the end beyond the least number of decimals are dropped.
func (v *view) number(s string, least int, unit string) {
	if _, ok := fatturapa.ParseDecimal(s); !ok {
		v.out.text(s)
		return
	}
	thousand, point := byte('.'), byte(',')
	if v.lang == english {
		thousand, point = ',', '.'
	}
	b := v.scratch[:0]
	switch s[0] {
	case '-':
		b, s = append(b, "\u2212"...), s[1:]
	case '+':
		s = s[1:]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	whole = strings.TrimLeft(whole, "0")
	if whole == "" {
		whole = "0"
	}
	for len(fraction) > least && fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
	}
	for i := 0; i < len(whole); i++ {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b = append(b, thousand)
		}
		b = append(b, whole[i])
	}
	if len(fraction) > 0 || least > 0 {
		b = append(b, point)
	}
	b = append(b, fraction...)
	for i := len(fraction); i < least; i++ {
		b = append(b, '0')
	}
	b = append(b, unit...)
	v.out.number(b)
	v.scratch = b
}

var months = [13]string{"", "January", "February", "March", "April", "May", "June", "July", "August",
	"September", "October", "November", "December"}

// day writes 20/05/2026 or 20 May 2026, and a time zone apart.
func (v *view) day(s string) (shown, zone string, ok bool) {
	s = strings.TrimSpace(s)
	_, month, _, ok := fatturapa.Date(s).YMD()
	if !ok {
		return "", "", false
	}
	year, mm, dd := s[0:4], s[5:7], s[8:10]
	if zone = s[10:]; zone != "" {
		zone = " " + zone
	}
	if v.lang == english {
		return strings.TrimPrefix(dd, "0") + " " + months[month] + " " + year, zone, true
	}
	return dd + "/" + mm + "/" + year, zone, true
}

// date writes a date; a time zone stays behind it.
func (v *view) date(s string) {
	s = strings.TrimSpace(s)
	shown, zone, ok := v.day(s)
	if !ok {
		v.out.text(s)
		return
	}
	v.out.date(s[:10], shown)
	if zone != "" {
		v.out.text(zone)
	}
}
