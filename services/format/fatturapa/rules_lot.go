package fatturapa

import "fmt"

// lotRules find duplicates: in the file itself, and in what was sent before.
var lotRules = []rule{
	{code: "00404", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00404"), each: ruleIssuedBefore,
		message: Text{"Documento già inviato: stesso soggetto, numero e anno", "The document was sent before: same party, number and year"},
		hint:    Text{"Dare al documento un altro numero", "Give the document another number"}},
	{code: "00409", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00409"), file: ruleLotDuplicates,
		message: Text{"Documento ripetuto nello stesso lotto: stesso soggetto, numero e anno", "The document is twice in the same lot: same party, number and year"},
		hint:    Text{"Dare numeri diversi ai documenti del lotto", "Give different numbers to the documents of the lot"}},
}

// Keys returns the keys under which SdI looks for duplicates of a document. The
// texts disagree on who is the issuer of a self-billed document: Allegato A goes
// by TipoDocumento, Elenco by SoggettoEmittente. When the keys differ, store the
// document under both.
func (f *File) Keys(b *Body) (byAllegatoA, byElenco DocumentKey) {
	doc := b.Documento()
	year, _, _, _ := doc.Data.YMD()
	k := DocumentKey{Numero: trim(doc.Numero), Year: year,
		CreditNote: doc.TipoDocumento == "TD04" || doc.TipoDocumento == "TD08"}
	if doc.Art73 == "SI" {
		k.Data = Date(trim(string(doc.Data)))
	}
	party := func(d *DatiAnagrafici) string {
		if d.IdFiscaleIVA.Present() {
			return d.IdFiscaleIVA.String()
		}
		return d.CodiceFiscale
	}
	seller := party(&f.Header.CedentePrestatore.DatiAnagrafici)
	buyer := party(&f.Header.CessionarioCommittente.DatiAnagrafici)
	byAllegatoA, byElenco = k, k
	byAllegatoA.Party, byElenco.Party = seller, seller
	if oneOf(doc.TipoDocumento, "TD16", "TD17", "TD18", "TD19", "TD20", "TD22", "TD23", "TD28", "TD29") {
		byAllegatoA.Party = buyer
	}
	if f.Header.SoggettoEmittente == "CC" {
		byElenco.Party = buyer
	}
	return byAllegatoA, byElenco
}

const disputedIssuer = "disputed: AllA-1.9 and Elenco-2.0 disagree on the issuer of a self-billed document"

func ruleIssuedBefore(c *check, b *Body) {
	if c.o.Ledger.Issued == nil || b.Documento().Numero == "" {
		return
	}
	a, e := c.f.Keys(b)
	at := c.at(b.Documento().Node, tagNumero)
	which, inA := c.o.Ledger.Issued(a)
	inE := inA
	if a != e {
		var w string
		if w, inE = c.o.Ledger.Issued(e); inE {
			which = w
		}
	}
	actual := fmt.Sprintf("%s %s %s", a.Party, a.Numero, b.Documento().Data)
	switch {
	case inA && inE:
		c.report(at, actual, which)
	case inA || inE:
		c.dispute(at, actual, which, disputedIssuer)
	}
}

// lotKey groups the documents that may be duplicates; Art73 is looked at within
// a group.
type lotKey struct {
	party, numero string
	year          int
	credit        bool
}

// lotGroup remembers the first documents of a key: one without Art73, against
// which any repetition counts, and one for each date of those with Art73.
type lotGroup struct {
	plain int // place in the lot from 1; 0 for none
	dated map[int]int
}

// earlier returns the place, from 1, of a document that this one repeats, 0 for
// none, and remembers the document.
func (g *lotGroup) earlier(place, day int, art73 bool) int {
	found := g.plain
	if i := g.dated[day]; i != 0 && (found == 0 || i < found) {
		found = i
	}
	switch {
	case !art73 && g.plain == 0:
		g.plain = place
	case art73 && g.dated[day] == 0:
		if g.dated == nil {
			g.dated = map[int]int{}
		}
		g.dated[day] = place
	}
	return found
}

// ruleLotDuplicates compares each document with those before it. Art73 is taken
// from the earlier one, as Elenco does.
func ruleLotDuplicates(c *check) {
	bodies := c.f.Bodies
	if len(bodies) < 2 {
		return
	}
	byA, byE := map[lotKey]*lotGroup{}, map[lotKey]*lotGroup{}
	earlier := func(m map[lotKey]*lotGroup, k DocumentKey, place int, doc *DatiGeneraliDocumento) int {
		key := lotKey{k.Party, k.Numero, k.Year, k.CreditNote}
		if m[key] == nil {
			m[key] = &lotGroup{}
		}
		return m[key].earlier(place, doc.Data.Ordinal(), doc.Art73 == "SI")
	}
	for j := range bodies {
		doc := bodies[j].Documento()
		if doc.Numero == "" {
			continue
		}
		a, e := c.f.Keys(&bodies[j])
		firstA, firstE := earlier(byA, a, j+1, doc), earlier(byE, e, j+1, doc)
		if firstA == 0 && firstE == 0 {
			continue
		}
		at := c.at(doc.Node, tagNumero)
		actual := fmt.Sprintf("%s %s", doc.Numero, doc.Data)
		expected := fmt.Sprintf("!= FatturaElettronicaBody[%d]", max(firstA, firstE))
		switch {
		case doc.TipoDocumento == "TD04":
			c.dispute(at, actual, expected, "disputed for two TD04: a duplicate for Elenco-2.0, AllA-1.9 is silent")
		case firstA > 0 && firstE > 0:
			c.report(at, actual, expected)
		default:
			c.dispute(at, actual, expected, disputedIssuer)
		}
	}
}
