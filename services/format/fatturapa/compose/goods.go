package compose

import (
	"math/big"
	"strconv"
	"strings"
)

func (c *composer) line(number int, s *lineSum) {
	l, path := s.req, s.path
	c.w.block("DettaglioLinee", func() {
		c.w.el("NumeroLinea", strconv.Itoa(number))
		c.code("TipoCessionePrestazione", path+".kind", l.Kind, lineKinds)
		for i := range l.Codes {
			p := at(path+".codes", i)
			c.w.block("CodiceArticolo", func() {
				c.needText("CodiceTipo", p+".type", l.Codes[i].Type, ascii, 35)
				c.needText("CodiceValore", p+".value", l.Codes[i].Value, latin1, 35)
			})
		}
		c.needText("Descrizione", path+".description", l.Description, latin1, 1000)
		if q := c.rat(l.Quantity); q != nil {
			c.w.el("Quantita", fixed(q, 2, 8))
		}
		c.text("UnitaMisura", path+".unit", l.Unit, ascii, 10)
		from := c.date("DataInizioPeriodo", path+".from", l.From)
		if to := c.date("DataFinePeriodo", path+".to", l.To); from && to && l.To < l.From {
			c.fail(path+".to", "is before the start of the period", "exchange from and to")
		}
		c.w.el("PrezzoUnitario", fixed(s.price, 2, 8))
		for _, d := range s.discounts {
			c.discount(d.surcharge, d.percent, d.amount)
		}
		c.w.el("PrezzoTotale", fixed(s.total, 2, 8))
		c.w.el("AliquotaIVA", money(s.vat.rate))
		if l.Withholding {
			c.w.el("Ritenuta", "SI")
		}
		c.w.el("Natura", s.vat.nature)
		c.text("RiferimentoAmministrazione", path+".administrativeReference", l.AdministrativeReference, ascii, 20)
		c.extra(path, l)
	})
}

func (c *composer) extra(path string, l *Line) {
	intent := false
	for i := range l.Extra {
		x, p := &l.Extra[i], at(path+".extra", i)
		intent = intent || strings.EqualFold(strings.TrimSpace(x.Type), "INTENTO")
		c.w.block("AltriDatiGestionali", func() {
			c.needText("TipoDato", p+".type", x.Type, ascii, 10)
			c.text("RiferimentoTesto", p+".text", x.Text, latin1, 60)
			if n := c.number(p+".number", x.Number, 8); n != nil {
				c.w.el("RiferimentoNumero", fixed(n, 2, 8))
			}
			c.date("RiferimentoData", p+".date", x.Date)
		})
	}
	if l.Nature == "N3.5" && !intent {
		c.advise(path+".extra", "nature N3.5 wants the protocol of the declaration of intent: an element of type INTENTO with text and date")
	}
}

// discount writes ScontoMaggiorazione; one of percent and amount is set.
func (c *composer) discount(surcharge bool, percent, amount *big.Rat) {
	c.w.block("ScontoMaggiorazione", func() {
		kind := "SC"
		if surcharge {
			kind = "MG"
		}
		c.w.el("Tipo", kind)
		if percent != nil {
			c.w.el("Percentuale", money(percent))
		}
		if amount != nil {
			c.w.el("Importo", fixed(amount, 2, 8))
		}
	})
}

func (c *composer) summary(s *summarySum) {
	c.w.block("DatiRiepilogo", func() {
		c.w.el("AliquotaIVA", money(s.vat.rate))
		c.w.el("Natura", s.vat.nature)
		if s.rounding.Sign() != 0 {
			c.w.el("Arrotondamento", fixed(s.rounding, 2, 8))
		}
		c.w.el("ImponibileImporto", money(s.taxable))
		c.w.el("Imposta", money(s.tax))
		c.w.el("EsigibilitaIVA", s.vat.collect)
		c.w.el("RiferimentoNormativo", s.vat.reference)
	})
}

func (c *composer) fund(s *fundSum) {
	f := s.req
	c.needCode("TipoCassa", s.path+".type", f.Type, fundTypes)
	c.w.el("AlCassa", money(s.rate))
	c.w.el("ImportoContributoCassa", money(s.amount))
	c.w.el("ImponibileCassa", money(s.base))
	c.w.el("AliquotaIVA", money(s.vat.rate))
	if f.Withholding {
		c.w.el("Ritenuta", "SI")
	}
	c.w.el("Natura", s.vat.nature)
	c.text("RiferimentoAmministrazione", s.path+".administrativeReference", f.AdministrativeReference, ascii, 20)
}
