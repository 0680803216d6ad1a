package compose

import (
	"encoding/base64"
	"math/big"
	"strconv"
	"strings"
)

func (c *composer) payments() {
	for i := range c.req.Payments {
		p, path := &c.req.Payments[i], at("$.payments", i)
		if len(p.Instalments) == 0 {
			c.fail(path+".instalments", "there is none", "give at least one")
			continue
		}
		if len(p.Instalments) > maxBlock {
			c.fail(path+".instalments", strconv.Itoa(len(p.Instalments))+" elements", "at most "+strconv.Itoa(maxBlock)+" are taken")
			continue
		}
		terms := p.Terms
		if terms == "" {
			terms = "TP02"
			if len(p.Instalments) > 1 {
				terms = "TP01"
			}
		}
		amounts := c.shares(path, p)
		c.w.block("DatiPagamento", func() {
			c.code("CondizioniPagamento", path+".terms", terms, paymentTerms)
			for j := range p.Instalments {
				c.w.block("DettaglioPagamento", func() {
					c.instalment(at(path+".instalments", j), &p.Instalments[j], amounts[j])
				})
			}
		})
	}
}

// shares gives each instalment its amount.
func (c *composer) shares(path string, p *Payment) []*big.Rat {
	out := make([]*big.Rat, len(p.Instalments))
	left, open := c.payable, 0
	for i := range p.Instalments {
		out[i] = c.number(at(path+".instalments", i)+".amount", p.Instalments[i].Amount, 2)
		if out[i] == nil {
			open++
			continue
		}
		left = minus(left, out[i])
	}
	if open == 0 {
		if left.Sign() != 0 && len(c.req.Payments) == 1 {
			c.advise(path, "the instalments differ from the payable amount "+money(c.payable)+" by "+money(left))
		}
		return out
	}
	share := new(big.Rat).Quo(left, big.NewRat(int64(open), 1))
	share, _ = new(big.Rat).SetString(truncated(share))
	for i := range out {
		if out[i] != nil {
			continue
		}
		open--
		out[i] = share
		if open == 0 {
			out[i] = left
		}
		left = minus(left, out[i])
	}
	return out
}

// truncated cuts an amount to cents, towards zero.
func truncated(r *big.Rat) string {
	s := r.FloatString(8)
	return s[:len(s)-6]
}

func (c *composer) instalment(path string, p *Instalment, amount *big.Rat) {
	c.text("Beneficiario", path+".payee", p.Payee, latin1, 200)
	c.needCode("ModalitaPagamento", path+".method", p.Method, paymentMethods)
	c.date("DataRiferimentoTerminiPagamento", path+".fromDate", p.FromDate)
	if p.Days != nil {
		if *p.Days < 0 || *p.Days > 999 {
			c.fail(path+".days", strconv.Itoa(*p.Days)+" is out of range", "0 to 999 are allowed")
		}
		c.w.el("GiorniTerminiPagamento", strconv.Itoa(*p.Days))
	}
	c.date("DataScadenzaPagamento", path+".dueDate", p.DueDate)
	c.w.el("ImportoPagamento", c.computed(path+".amount", amount))
	c.identifier("CodUfficioPostale", path+".postOffice", p.PostOffice, 20)
	c.text("IstitutoFinanziario", path+".bank", p.Bank, latin1, 80)
	c.iban(path+".iban", p)
	c.shaped("ABI", path+".abi", p.ABI, fiveNum, "use five digits")
	c.shaped("CAB", path+".cab", p.CAB, fiveNum, "use five digits")
	c.shaped("BIC", path+".bic", p.BIC, bicText, "use the 8 or 11 characters of the code, in capital letters")
	c.amount("ScontoPagamentoAnticipato", path+".earlyDiscount", p.EarlyDiscount)
	c.date("DataLimitePagamentoAnticipato", path+".earlyLimitDate", p.EarlyLimitDate)
	c.amount("PenalitaPagamentiRitardati", path+".latePenalty", p.LatePenalty)
	c.date("DataDecorrenzaPenale", path+".latePenaltyDate", p.LatePenaltyDate)
	c.text("CodicePagamento", path+".code", p.Code, ascii, 60)
}

// iban writes the number without spaces. SdI does not check its digits, the bank
// of the payer does.
func (c *composer) iban(path string, p *Instalment) {
	iban := strings.ToUpper(strings.Join(strings.Fields(p.IBAN), ""))
	if iban == "" {
		if p.Method == "MP05" {
			c.advise(path, "a bank transfer without IBAN cannot be paid from the invoice")
		}
		return
	}
	if iban != p.IBAN {
		c.changed(path, p.IBAN, iban, "an IBAN is written in capital letters without spaces")
	}
	c.shaped("IBAN", path, iban, ibanText, "use two letters, two digits and the account, such as IT60X0542811101000000123456")
	if ibanText.MatchString(iban) && !validIBAN(iban) {
		c.advise(path, "the check digits of the IBAN are wrong")
	}
}

// validIBAN checks the digits of an IBAN.
//
// spec: ISO 13616-1, modulus 97
func validIBAN(s string) bool {
	rest := 0
	for _, r := range s[4:] + s[:4] {
		if r >= 'A' {
			rest = (rest*100 + int(r-'A') + 10) % 97
		} else {
			rest = (rest*10 + int(r-'0')) % 97
		}
	}
	return rest == 1
}

// attachments writes Allegati.
func (c *composer) attachments() {
	seen := map[string]bool{}
	for i := range c.req.Attachments {
		a, path := &c.req.Attachments[i], at("$.attachments", i)
		dot := strings.LastIndexByte(a.Name, '.')
		switch {
		case a.Name == "":
		case strings.ContainsAny(a.Name, "/\\:*?\"<>|\r\n\t"):
			c.fail(path+".name", strconv.Quote(a.Name)+" has a character that file systems refuse", `leave out folders and \ / : * ? " < > |`)
		case dot <= 0 || dot == len(a.Name)-1:
			c.fail(path+".name", strconv.Quote(a.Name)+" has no extension", "give the file name with its extension, such as offerta.pdf")
		case seen[strings.ToLower(a.Name)]:
			c.fail(path+".name", strconv.Quote(a.Name)+" is there twice", "give each attachment its own name")
		}
		seen[strings.ToLower(a.Name)] = true
		if len(a.Content) == 0 {
			c.fail(path+".content", "is empty", "give the bytes of the file, in JSON as base64")
		}
		format := a.Format
		if ext := a.Name[dot+1:]; format == "" && dot > 0 && len(ext) <= 10 && plain(ext, ascii) {
			format = strings.ToUpper(ext)
		}
		c.w.block("Allegati", func() {
			c.needText("NomeAttachment", path+".name", a.Name, latin1, 60)
			c.text("AlgoritmoCompressione", path+".compression", a.Compression, ascii, 10)
			c.text("FormatoAttachment", path+".format", format, ascii, 10)
			c.text("DescrizioneAttachment", path+".description", a.Description, latin1, 100)
			c.w.el("Attachment", base64.StdEncoding.EncodeToString(a.Content))
		})
	}
}
