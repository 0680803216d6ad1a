package fatturapa

import (
	"strconv"
	"strings"
)

const (
	clauseA      = "AllA-1.9 App.1 (%s), Elenco-2.0"
	clauseOnlyA  = "AllA-1.9 App.1 (%s); not in Elenco-2.0"
	disputedByE  = "disputed: not in Elenco-2.0"
	disputedByA  = "disputed: in Elenco-2.0 only"
	disputedEdge = "disputed at the boundary: AllA-1.9 refuses above the tolerance, Elenco-2.0 from the tolerance on"
)

// cite writes the clause of a code.
func cite(format, code string) string { return strings.Replace(format, "%s", code, 1) }

// fileRules are about the file as a whole.
var fileRules = []rule{
	{code: "00001", kinds: everyKind, severity: SeverityError, clause: "AllA-1.9 §1.2.2 (00001), Elenco-2.0", file: ruleFileName,
		message: Text{"Il nome del file non è valido", "The file name is not valid"},
		hint: Text{"Usare paese, identificativo fiscale, trattino basso, progressivo da 1 a 5 lettere o cifre ed estensione: IT01234567890_a1B2c.xml",
			"Use country, fiscal id, underscore, a progressive of 1 to 5 letters or digits and the extension: IT01234567890_a1B2c.xml"}},
	{code: "00002", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00002"), file: ruleFileNameUsed,
		message: Text{"Il nome del file è già stato usato per un altro invio", "The file name was used before"},
		hint:    Text{"Dare al file un nome nuovo, anche dopo uno scarto", "Give the file a new name, after a rejection too"}},
	{code: "00003", kinds: everyKind, severity: SeverityError, clause: "AllA-1.9 §1.3.1 (00003)", file: ruleSize,
		message: Text{"Il file supera la dimensione massima ammessa", "The file is larger than allowed"},
		hint:    Text{"Ridurre gli allegati o dividere il lotto", "Shrink the attachments or split the lot"}},
	{code: "00427", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00427"), file: ruleRecipientLength,
		message: Text{"La lunghezza di CodiceDestinatario non è quella del formato di trasmissione", "The length of CodiceDestinatario does not fit the transmission format"},
		hint:    Text{"6 caratteri (codice ufficio IPA) con FPA12, 7 con FPR12", "6 characters (IPA office code) with FPA12, 7 with FPR12"}},
	{code: "00428", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00428"), file: ruleFormatVersion,
		message: Text{"FormatoTrasmissione non coincide con l'attributo versione", "FormatoTrasmissione differs from the attribute versione"},
		hint:    Text{"Scrivere lo stesso codice in entrambi", "Write the same code in both"}},
	{code: "00313", kinds: private | simplified, severity: SeverityError, clause: cite(clauseOnlyA, "00313"), file: ruleForeignRecipient,
		message: Text{"CodiceDestinatario XXXXXXX è ammesso solo per un cessionario estero con IdFiscaleIVA", "CodiceDestinatario XXXXXXX is only for a foreign buyer with IdFiscaleIVA"},
		hint: Text{"Indicare l'IdFiscaleIVA con il paese estero del cessionario, oppure usare 0000000",
			"Give the IdFiscaleIVA of the buyer with its foreign country, or use 0000000"}},
	{code: "00330", kinds: everyKind, severity: SeverityError, clause: cite(clauseOnlyA, "00330"), file: ruleSdIMailbox,
		message: Text{"PECDestinatario è una casella del Sistema di Interscambio", "PECDestinatario is a mailbox of the exchange system"},
		hint:    Text{"Indicare la PEC del cessionario", "Give the certified mail address of the buyer"}},
}

// ValidFileName reports whether a name is one that SdI takes: country, fiscal id,
// underscore, progressive and one of the extensions .xml, .xml.p7m, .zip.
//
// spec: AllA-1.9 §1.2.2
func ValidFileName(name string) bool {
	stem, ok := "", false
	for _, ext := range []string{".xml.p7m", ".xml", ".zip"} {
		// The case of the extension is not stated anywhere; names in use vary.
		if len(name) > len(ext) && strings.EqualFold(name[len(name)-len(ext):], ext) {
			stem, ok = name[:len(name)-len(ext)], true
			break
		}
	}
	id, progressive, found := strings.Cut(stem, "_")
	if !ok || !found || len(id) < 4 || len(progressive) < 1 || len(progressive) > 5 {
		return false
	}
	country, code := id[:2], id[2:]
	for i := range len(country) {
		if country[i] < 'A' || country[i] > 'Z' {
			return false
		}
	}
	for _, s := range []string{code, progressive} {
		for i := range len(s) {
			if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	if country == "IT" {
		return len(code) >= 11 && len(code) <= 16
	}
	return len(code) >= 2 && len(code) <= 28
}

func ruleFileName(c *check) {
	if c.o.FileName != "" && !ValidFileName(c.o.FileName) {
		c.reportText(0, plain(c.o.FileName), Text{"<paese><id>_<1-5 [A-Za-z0-9]>.xml | .xml.p7m | .zip",
			"<country><id>_<1-5 [A-Za-z0-9]>.xml | .xml.p7m | .zip"})
	}
}

func ruleFileNameUsed(c *check) {
	if c.o.FileName != "" && c.o.Ledger.FileNameUsed != nil && c.o.Ledger.FileNameUsed(c.o.FileName) {
		c.report(0, c.o.FileName, "")
	}
}

func ruleSize(c *check) {
	if c.f.Size() > maxSize {
		c.report(0, strconv.Itoa(c.f.Size()), strconv.Itoa(maxSize))
	}
}

func ruleRecipientLength(c *check) {
	tr := &c.f.Header.DatiTrasmissione
	want := 0
	switch tr.FormatoTrasmissione {
	case "FPA12":
		want = 6
	case "FPR12":
		want = 7
	}
	if want != 0 && tr.CodiceDestinatario != "" && len(tr.CodiceDestinatario) != want {
		n := strconv.Itoa(want)
		c.reportText(c.at(tr.Node, tagCodiceDestinatario), plain(tr.CodiceDestinatario), Text{n + " caratteri", n + " characters"})
	}
}

func ruleFormatVersion(c *check) {
	tr := &c.f.Header.DatiTrasmissione
	if tr.FormatoTrasmissione != "" && c.f.Versione != "" && tr.FormatoTrasmissione != c.f.Versione {
		c.report(c.at(tr.Node, tagFormatoTrasmissione), tr.FormatoTrasmissione, c.f.Versione)
	}
}

var notItaly = Text{"IdPaese diverso da IT", "an IdPaese other than IT"}

func ruleForeignRecipient(c *check) {
	tr := &c.f.Header.DatiTrasmissione
	if tr.CodiceDestinatario != "XXXXXXX" {
		return
	}
	buyer := &c.f.Header.CessionarioCommittente
	id := &buyer.DatiAnagrafici.IdFiscaleIVA
	switch {
	case !id.Present():
		c.reportText(c.at(tr.Node, tagCodiceDestinatario), Text{"IdFiscaleIVA assente", "no IdFiscaleIVA"}, notItaly)
	case id.IdPaese == "IT":
		c.reportText(c.at(id.Node, tagIdPaese), plain(id.IdPaese), notItaly)
	}
}

func ruleSdIMailbox(c *check) {
	pec := strings.ToLower(trim(c.f.Header.DatiTrasmissione.PECDestinatario))
	local, domain, _ := strings.Cut(pec, "@")
	if domain != "pec.fatturapa.it" || !strings.HasPrefix(local, "sdi") {
		return
	}
	if _, ok := digits(local[3:]); ok {
		c.report(c.at(c.f.Header.DatiTrasmissione.Node, tagPECDestinatario), pec, "")
	}
}
