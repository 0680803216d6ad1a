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
	kindID      // country and code in one line
	kindAddress // in one line
)

// value writes a value for people to read; one that is not what it should be is
// written as it stands in the file.
func (p *page) value(k kind, v string) {
	t := strings.TrimSpace(v)
	switch k {
	case kindMoney:
		p.number(t, 2)
	case kindQuantity:
		p.number(t, 0)
	case kindRate:
		p.number(t, 2)
		if _, ok := fatturapa.ParseDecimal(t); ok {
			p.raw("\u00a0%")
		}
	case kindDate:
		p.date(t)
	case kindTime:
		day, clock, ok := strings.Cut(t, "T")
		p.date(day)
		if ok {
			p.raw(" ")
			p.text(clock)
		}
	default:
		p.text(v)
	}
}

// number writes a decimal with separators of the language and all its decimals;
// zeros at the end beyond the least number of decimals are dropped.
func (p *page) number(v string, least int) {
	if _, ok := fatturapa.ParseDecimal(v); !ok {
		p.text(v)
		return
	}
	thousand, point := byte('.'), byte(',')
	if p.lang == english {
		thousand, point = ',', '.'
	}
	sign := ""
	switch v[0] {
	case '-':
		sign, v = "\u2212", v[1:]
	case '+':
		v = v[1:]
	}
	whole, fraction, _ := strings.Cut(v, ".")
	whole = strings.TrimLeft(whole, "0")
	if whole == "" {
		whole = "0"
	}
	for len(fraction) > least && fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
	}
	p.raw(sign)
	for i := 0; i < len(whole); i++ {
		if i > 0 && (len(whole)-i)%3 == 0 {
			p.buf = append(p.buf, thousand)
		}
		p.buf = append(p.buf, whole[i])
	}
	if len(fraction) > 0 || least > 0 {
		p.buf = append(p.buf, point)
	}
	p.raw(fraction)
	for i := len(fraction); i < least; i++ {
		p.buf = append(p.buf, '0')
	}
}

var months = [13]string{"", "January", "February", "March", "April", "May", "June", "July", "August",
	"September", "October", "November", "December"}

// date writes 20/05/2026 or 20 May 2026; a time zone stays behind it.
func (p *page) date(v string) {
	_, month, _, ok := fatturapa.Date(v).YMD()
	if !ok {
		p.text(v)
		return
	}
	year, mm, dd, zone := v[0:4], v[5:7], v[8:10], v[10:]
	p.raw("<time datetime=\"")
	p.text(v[:10])
	p.raw("\">")
	if p.lang == english {
		p.raw(strings.TrimPrefix(dd, "0"), " ", months[month], " ", year)
	} else {
		p.raw(dd, "/", mm, "/", year)
	}
	p.raw("</time>")
	if zone != "" {
		p.raw(" ")
		p.text(zone)
	}
}
