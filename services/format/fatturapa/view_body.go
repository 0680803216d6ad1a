package fatturapa

func (f *File) fillDatiDocumentiCorrelati(n NodeID, v *DatiDocumentiCorrelati) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagRiferimentoNumeroLinea:
			v.RiferimentoNumeroLinea = append(v.RiferimentoNumeroLinea, f.integer(c))
		case tagIdDocumento:
			if v.IdDocumento == "" {
				v.IdDocumento = f.text(c)
			}
		case tagData:
			if v.Data == "" {
				v.Data = Date(trim(f.text(c)))
			}
		case tagNumItem:
			if v.NumItem == "" {
				v.NumItem = f.text(c)
			}
		case tagCodiceCommessaConvenzione:
			if v.CodiceCommessaConvenzione == "" {
				v.CodiceCommessaConvenzione = f.text(c)
			}
		case tagCodiceCUP:
			if v.CodiceCUP == "" {
				v.CodiceCUP = f.text(c)
			}
		case tagCodiceCIG:
			if v.CodiceCIG == "" {
				v.CodiceCIG = f.text(c)
			}
		}
	}
}

func (f *File) fillDatiSAL(n NodeID, v *DatiSAL) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagRiferimentoFase:
			if v.RiferimentoFase == 0 {
				v.RiferimentoFase = f.integer(c)
			}
		}
	}
}

func (f *File) fillDatiDDT(n NodeID, v *DatiDDT) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagNumeroDDT:
			if v.NumeroDDT == "" {
				v.NumeroDDT = f.text(c)
			}
		case tagDataDDT:
			if v.DataDDT == "" {
				v.DataDDT = Date(trim(f.text(c)))
			}
		case tagRiferimentoNumeroLinea:
			v.RiferimentoNumeroLinea = append(v.RiferimentoNumeroLinea, f.integer(c))
		}
	}
}

func (f *File) fillDatiTrasporto(n NodeID, v *DatiTrasporto) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDatiAnagraficiVettore:
			if v.DatiAnagraficiVettore == nil {
				v.DatiAnagraficiVettore = new(DatiAnagrafici)
				f.fillDatiAnagrafici(c, v.DatiAnagraficiVettore)
			}
		case tagMezzoTrasporto:
			if v.MezzoTrasporto == "" {
				v.MezzoTrasporto = f.text(c)
			}
		case tagCausaleTrasporto:
			if v.CausaleTrasporto == "" {
				v.CausaleTrasporto = f.text(c)
			}
		case tagNumeroColli:
			if v.NumeroColli == 0 {
				v.NumeroColli = f.integer(c)
			}
		case tagDescrizione:
			if v.Descrizione == "" {
				v.Descrizione = f.text(c)
			}
		case tagUnitaMisuraPeso:
			if v.UnitaMisuraPeso == "" {
				v.UnitaMisuraPeso = f.text(c)
			}
		case tagPesoLordo:
			if !v.PesoLordo.IsSet() {
				v.PesoLordo = f.decimal(c)
			}
		case tagPesoNetto:
			if !v.PesoNetto.IsSet() {
				v.PesoNetto = f.decimal(c)
			}
		case tagDataOraRitiro:
			if v.DataOraRitiro == "" {
				v.DataOraRitiro = f.text(c)
			}
		case tagDataInizioTrasporto:
			if v.DataInizioTrasporto == "" {
				v.DataInizioTrasporto = Date(trim(f.text(c)))
			}
		case tagTipoResa:
			if v.TipoResa == "" {
				v.TipoResa = f.text(c)
			}
		case tagIndirizzoResa:
			if v.IndirizzoResa == nil {
				v.IndirizzoResa = new(Indirizzo)
				f.fillIndirizzo(c, v.IndirizzoResa)
			}
		case tagDataOraConsegna:
			if v.DataOraConsegna == "" {
				v.DataOraConsegna = f.text(c)
			}
		}
	}
}

func (f *File) fillFatturaPrincipale(n NodeID, v *FatturaPrincipale) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagNumeroFatturaPrincipale:
			if v.NumeroFatturaPrincipale == "" {
				v.NumeroFatturaPrincipale = f.text(c)
			}
		case tagDataFatturaPrincipale:
			if v.DataFatturaPrincipale == "" {
				v.DataFatturaPrincipale = Date(trim(f.text(c)))
			}
		}
	}
}

func (f *File) fillDatiFatturaRettificata(n NodeID, v *DatiFatturaRettificata) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagNumeroFR:
			if v.NumeroFR == "" {
				v.NumeroFR = f.text(c)
			}
		case tagDataFR:
			if v.DataFR == "" {
				v.DataFR = Date(trim(f.text(c)))
			}
		case tagElementiRettificati:
			if v.ElementiRettificati == "" {
				v.ElementiRettificati = f.text(c)
			}
		}
	}
}

func (f *File) fillDatiGenerali(n NodeID, v *DatiGenerali) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDatiGeneraliDocumento:
			if v.DatiGeneraliDocumento.Node == 0 {
				f.fillDatiGeneraliDocumento(c, &v.DatiGeneraliDocumento)
			}
		case tagDatiOrdineAcquisto:
			v.DatiOrdineAcquisto = grow(f, v.DatiOrdineAcquisto, c)
			f.fillDatiDocumentiCorrelati(c, &v.DatiOrdineAcquisto[len(v.DatiOrdineAcquisto)-1])
		case tagDatiContratto:
			v.DatiContratto = grow(f, v.DatiContratto, c)
			f.fillDatiDocumentiCorrelati(c, &v.DatiContratto[len(v.DatiContratto)-1])
		case tagDatiConvenzione:
			v.DatiConvenzione = grow(f, v.DatiConvenzione, c)
			f.fillDatiDocumentiCorrelati(c, &v.DatiConvenzione[len(v.DatiConvenzione)-1])
		case tagDatiRicezione:
			v.DatiRicezione = grow(f, v.DatiRicezione, c)
			f.fillDatiDocumentiCorrelati(c, &v.DatiRicezione[len(v.DatiRicezione)-1])
		case tagDatiFattureCollegate:
			v.DatiFattureCollegate = grow(f, v.DatiFattureCollegate, c)
			f.fillDatiDocumentiCorrelati(c, &v.DatiFattureCollegate[len(v.DatiFattureCollegate)-1])
		case tagDatiSAL:
			v.DatiSAL = grow(f, v.DatiSAL, c)
			f.fillDatiSAL(c, &v.DatiSAL[len(v.DatiSAL)-1])
		case tagDatiDDT:
			v.DatiDDT = grow(f, v.DatiDDT, c)
			f.fillDatiDDT(c, &v.DatiDDT[len(v.DatiDDT)-1])
		case tagDatiTrasporto:
			if v.DatiTrasporto == nil {
				v.DatiTrasporto = new(DatiTrasporto)
				f.fillDatiTrasporto(c, v.DatiTrasporto)
			}
		case tagNormaDiRiferimento:
			if v.NormaDiRiferimento == "" {
				v.NormaDiRiferimento = f.text(c)
			}
		case tagFatturaPrincipale:
			if v.FatturaPrincipale == nil {
				v.FatturaPrincipale = new(FatturaPrincipale)
				f.fillFatturaPrincipale(c, v.FatturaPrincipale)
			}
		case tagDatiFatturaRettificata:
			if v.DatiFatturaRettificata == nil {
				v.DatiFatturaRettificata = new(DatiFatturaRettificata)
				f.fillDatiFatturaRettificata(c, v.DatiFatturaRettificata)
			}
		}
	}
}

func (f *File) fillCodiceArticolo(n NodeID, v *CodiceArticolo) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagCodiceTipo:
			if v.CodiceTipo == "" {
				v.CodiceTipo = f.text(c)
			}
		case tagCodiceValore:
			if v.CodiceValore == "" {
				v.CodiceValore = f.text(c)
			}
		}
	}
}

func (f *File) fillAltriDatiGestionali(n NodeID, v *AltriDatiGestionali) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipoDato:
			if v.TipoDato == "" {
				v.TipoDato = f.text(c)
			}
		case tagRiferimentoTesto:
			if v.RiferimentoTesto == "" {
				v.RiferimentoTesto = f.text(c)
			}
		case tagRiferimentoNumero:
			if !v.RiferimentoNumero.IsSet() {
				v.RiferimentoNumero = f.decimal(c)
			}
		case tagRiferimentoData:
			if v.RiferimentoData == "" {
				v.RiferimentoData = Date(trim(f.text(c)))
			}
		}
	}
}

func (f *File) fillDettaglioLinee(n NodeID, v *DettaglioLinee) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagNumeroLinea:
			if v.NumeroLinea == 0 {
				v.NumeroLinea = f.integer(c)
			}
		case tagTipoCessionePrestazione:
			if v.TipoCessionePrestazione == "" {
				v.TipoCessionePrestazione = f.text(c)
			}
		case tagCodiceArticolo:
			v.CodiceArticolo = grow(f, v.CodiceArticolo, c)
			f.fillCodiceArticolo(c, &v.CodiceArticolo[len(v.CodiceArticolo)-1])
		case tagDescrizione:
			if v.Descrizione == "" {
				v.Descrizione = f.text(c)
			}
		case tagQuantita:
			if !v.Quantita.IsSet() {
				v.Quantita = f.decimal(c)
			}
		case tagUnitaMisura:
			if v.UnitaMisura == "" {
				v.UnitaMisura = f.text(c)
			}
		case tagDataInizioPeriodo:
			if v.DataInizioPeriodo == "" {
				v.DataInizioPeriodo = Date(trim(f.text(c)))
			}
		case tagDataFinePeriodo:
			if v.DataFinePeriodo == "" {
				v.DataFinePeriodo = Date(trim(f.text(c)))
			}
		case tagPrezzoUnitario:
			if !v.PrezzoUnitario.IsSet() {
				v.PrezzoUnitario = f.decimal(c)
			}
		case tagScontoMaggiorazione:
			v.ScontoMaggiorazione = grow(f, v.ScontoMaggiorazione, c)
			f.fillScontoMaggiorazione(c, &v.ScontoMaggiorazione[len(v.ScontoMaggiorazione)-1])
		case tagPrezzoTotale:
			if !v.PrezzoTotale.IsSet() {
				v.PrezzoTotale = f.decimal(c)
			}
		case tagAliquotaIVA:
			if !v.AliquotaIVA.IsSet() {
				v.AliquotaIVA = f.decimal(c)
			}
		case tagRitenuta:
			if v.Ritenuta == "" {
				v.Ritenuta = f.text(c)
			}
		case tagNatura:
			if v.Natura == "" {
				v.Natura = f.text(c)
			}
		case tagRiferimentoAmministrazione:
			if v.RiferimentoAmministrazione == "" {
				v.RiferimentoAmministrazione = f.text(c)
			}
		case tagAltriDatiGestionali:
			v.AltriDatiGestionali = grow(f, v.AltriDatiGestionali, c)
			f.fillAltriDatiGestionali(c, &v.AltriDatiGestionali[len(v.AltriDatiGestionali)-1])
		}
	}
}

func (f *File) fillDatiRiepilogo(n NodeID, v *DatiRiepilogo) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagAliquotaIVA:
			if !v.AliquotaIVA.IsSet() {
				v.AliquotaIVA = f.decimal(c)
			}
		case tagNatura:
			if v.Natura == "" {
				v.Natura = f.text(c)
			}
		case tagSpeseAccessorie:
			if !v.SpeseAccessorie.IsSet() {
				v.SpeseAccessorie = f.decimal(c)
			}
		case tagArrotondamento:
			if !v.Arrotondamento.IsSet() {
				v.Arrotondamento = f.decimal(c)
			}
		case tagImponibileImporto:
			if !v.ImponibileImporto.IsSet() {
				v.ImponibileImporto = f.decimal(c)
			}
		case tagImposta:
			if !v.Imposta.IsSet() {
				v.Imposta = f.decimal(c)
			}
		case tagEsigibilitaIVA:
			if v.EsigibilitaIVA == "" {
				v.EsigibilitaIVA = f.text(c)
			}
		case tagRiferimentoNormativo:
			if v.RiferimentoNormativo == "" {
				v.RiferimentoNormativo = f.text(c)
			}
		}
	}
}

func (f *File) fillDatiBeniServizi(n NodeID, v *DatiBeniServizi) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDettaglioLinee:
			v.DettaglioLinee = grow(f, v.DettaglioLinee, c)
			f.fillDettaglioLinee(c, &v.DettaglioLinee[len(v.DettaglioLinee)-1])
		case tagDatiRiepilogo:
			v.DatiRiepilogo = grow(f, v.DatiRiepilogo, c)
			f.fillDatiRiepilogo(c, &v.DatiRiepilogo[len(v.DatiRiepilogo)-1])
		}
	}
}

func (f *File) fillDatiVeicoli(n NodeID, v *DatiVeicoli) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagData:
			if v.Data == "" {
				v.Data = Date(trim(f.text(c)))
			}
		case tagTotalePercorso:
			if v.TotalePercorso == "" {
				v.TotalePercorso = f.text(c)
			}
		}
	}
}

func (f *File) fillDettaglioPagamento(n NodeID, v *DettaglioPagamento) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagBeneficiario:
			if v.Beneficiario == "" {
				v.Beneficiario = f.text(c)
			}
		case tagModalitaPagamento:
			if v.ModalitaPagamento == "" {
				v.ModalitaPagamento = f.text(c)
			}
		case tagDataRiferimentoTerminiPagamento:
			if v.DataRiferimentoTerminiPagamento == "" {
				v.DataRiferimentoTerminiPagamento = Date(trim(f.text(c)))
			}
		case tagGiorniTerminiPagamento:
			if v.GiorniTerminiPagamento == "" {
				v.GiorniTerminiPagamento = f.text(c)
			}
		case tagDataScadenzaPagamento:
			if v.DataScadenzaPagamento == "" {
				v.DataScadenzaPagamento = Date(trim(f.text(c)))
			}
		case tagImportoPagamento:
			if !v.ImportoPagamento.IsSet() {
				v.ImportoPagamento = f.decimal(c)
			}
		case tagCodUfficioPostale:
			if v.CodUfficioPostale == "" {
				v.CodUfficioPostale = f.text(c)
			}
		case tagCognomeQuietanzante:
			if v.CognomeQuietanzante == "" {
				v.CognomeQuietanzante = f.text(c)
			}
		case tagNomeQuietanzante:
			if v.NomeQuietanzante == "" {
				v.NomeQuietanzante = f.text(c)
			}
		case tagCFQuietanzante:
			if v.CFQuietanzante == "" {
				v.CFQuietanzante = f.text(c)
			}
		case tagTitoloQuietanzante:
			if v.TitoloQuietanzante == "" {
				v.TitoloQuietanzante = f.text(c)
			}
		case tagIstitutoFinanziario:
			if v.IstitutoFinanziario == "" {
				v.IstitutoFinanziario = f.text(c)
			}
		case tagIBAN:
			if v.IBAN == "" {
				v.IBAN = f.text(c)
			}
		case tagABI:
			if v.ABI == "" {
				v.ABI = f.text(c)
			}
		case tagCAB:
			if v.CAB == "" {
				v.CAB = f.text(c)
			}
		case tagBIC:
			if v.BIC == "" {
				v.BIC = f.text(c)
			}
		case tagScontoPagamentoAnticipato:
			if !v.ScontoPagamentoAnticipato.IsSet() {
				v.ScontoPagamentoAnticipato = f.decimal(c)
			}
		case tagDataLimitePagamentoAnticipato:
			if v.DataLimitePagamentoAnticipato == "" {
				v.DataLimitePagamentoAnticipato = Date(trim(f.text(c)))
			}
		case tagPenalitaPagamentiRitardati:
			if !v.PenalitaPagamentiRitardati.IsSet() {
				v.PenalitaPagamentiRitardati = f.decimal(c)
			}
		case tagDataDecorrenzaPenale:
			if v.DataDecorrenzaPenale == "" {
				v.DataDecorrenzaPenale = Date(trim(f.text(c)))
			}
		case tagCodicePagamento:
			if v.CodicePagamento == "" {
				v.CodicePagamento = f.text(c)
			}
		}
	}
}

func (f *File) fillDatiPagamento(n NodeID, v *DatiPagamento) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagCondizioniPagamento:
			if v.CondizioniPagamento == "" {
				v.CondizioniPagamento = f.text(c)
			}
		case tagDettaglioPagamento:
			v.DettaglioPagamento = grow(f, v.DettaglioPagamento, c)
			f.fillDettaglioPagamento(c, &v.DettaglioPagamento[len(v.DettaglioPagamento)-1])
		}
	}
}

func (f *File) fillAllegato(n NodeID, v *Allegato) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagNomeAttachment:
			if v.NomeAttachment == "" {
				v.NomeAttachment = f.text(c)
			}
		case tagAlgoritmoCompressione:
			if v.AlgoritmoCompressione == "" {
				v.AlgoritmoCompressione = f.text(c)
			}
		case tagFormatoAttachment:
			if v.FormatoAttachment == "" {
				v.FormatoAttachment = f.text(c)
			}
		case tagDescrizioneAttachment:
			if v.DescrizioneAttachment == "" {
				v.DescrizioneAttachment = f.text(c)
			}
		case tagAttachment:
			if v.Attachment == "" {
				v.Attachment = f.text(c)
			}
		}
	}
}
