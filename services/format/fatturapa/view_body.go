package fatturapa

func (f *File) fillDatiDocumentiCorrelati(n NodeID, v *DatiDocumentiCorrelati) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagRiferimentoNumeroLinea:
			v.RiferimentoNumeroLinea = append(v.RiferimentoNumeroLinea, f.integer(c))
		case tagIdDocumento:
			f.setText(&v.IdDocumento, c)
		case tagData:
			f.setDate(&v.Data, c)
		case tagNumItem:
			f.setText(&v.NumItem, c)
		case tagCodiceCommessaConvenzione:
			f.setText(&v.CodiceCommessaConvenzione, c)
		case tagCodiceCUP:
			f.setText(&v.CodiceCUP, c)
		case tagCodiceCIG:
			f.setText(&v.CodiceCIG, c)
		}
	}
}

func (f *File) fillDatiSAL(n NodeID, v *DatiSAL) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagRiferimentoFase:
			f.setInteger(&v.RiferimentoFase, c)
		}
	}
}

func (f *File) fillDatiDDT(n NodeID, v *DatiDDT) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagNumeroDDT:
			f.setText(&v.NumeroDDT, c)
		case tagDataDDT:
			f.setDate(&v.DataDDT, c)
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
			f.setText(&v.MezzoTrasporto, c)
		case tagCausaleTrasporto:
			f.setText(&v.CausaleTrasporto, c)
		case tagNumeroColli:
			f.setInteger(&v.NumeroColli, c)
		case tagDescrizione:
			f.setText(&v.Descrizione, c)
		case tagUnitaMisuraPeso:
			f.setText(&v.UnitaMisuraPeso, c)
		case tagPesoLordo:
			f.setDecimal(&v.PesoLordo, c)
		case tagPesoNetto:
			f.setDecimal(&v.PesoNetto, c)
		case tagDataOraRitiro:
			f.setText(&v.DataOraRitiro, c)
		case tagDataInizioTrasporto:
			f.setDate(&v.DataInizioTrasporto, c)
		case tagTipoResa:
			f.setText(&v.TipoResa, c)
		case tagIndirizzoResa:
			if v.IndirizzoResa == nil {
				v.IndirizzoResa = new(Indirizzo)
				f.fillIndirizzo(c, v.IndirizzoResa)
			}
		case tagDataOraConsegna:
			f.setText(&v.DataOraConsegna, c)
		}
	}
}

func (f *File) fillFatturaPrincipale(n NodeID, v *FatturaPrincipale) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagNumeroFatturaPrincipale:
			f.setText(&v.NumeroFatturaPrincipale, c)
		case tagDataFatturaPrincipale:
			f.setDate(&v.DataFatturaPrincipale, c)
		}
	}
}

func (f *File) fillDatiFatturaRettificata(n NodeID, v *DatiFatturaRettificata) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagNumeroFR:
			f.setText(&v.NumeroFR, c)
		case tagDataFR:
			f.setDate(&v.DataFR, c)
		case tagElementiRettificati:
			f.setText(&v.ElementiRettificati, c)
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
			f.setText(&v.NormaDiRiferimento, c)
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
			f.setText(&v.CodiceTipo, c)
		case tagCodiceValore:
			f.setText(&v.CodiceValore, c)
		}
	}
}

func (f *File) fillAltriDatiGestionali(n NodeID, v *AltriDatiGestionali) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipoDato:
			f.setText(&v.TipoDato, c)
		case tagRiferimentoTesto:
			f.setText(&v.RiferimentoTesto, c)
		case tagRiferimentoNumero:
			f.setDecimal(&v.RiferimentoNumero, c)
		case tagRiferimentoData:
			f.setDate(&v.RiferimentoData, c)
		}
	}
}

func (f *File) fillDettaglioLinee(n NodeID, v *DettaglioLinee) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagNumeroLinea:
			f.setInteger(&v.NumeroLinea, c)
		case tagTipoCessionePrestazione:
			f.setText(&v.TipoCessionePrestazione, c)
		case tagCodiceArticolo:
			v.CodiceArticolo = grow(f, v.CodiceArticolo, c)
			f.fillCodiceArticolo(c, &v.CodiceArticolo[len(v.CodiceArticolo)-1])
		case tagDescrizione:
			f.setText(&v.Descrizione, c)
		case tagQuantita:
			f.setDecimal(&v.Quantita, c)
		case tagUnitaMisura:
			f.setText(&v.UnitaMisura, c)
		case tagDataInizioPeriodo:
			f.setDate(&v.DataInizioPeriodo, c)
		case tagDataFinePeriodo:
			f.setDate(&v.DataFinePeriodo, c)
		case tagPrezzoUnitario:
			f.setDecimal(&v.PrezzoUnitario, c)
		case tagScontoMaggiorazione:
			v.ScontoMaggiorazione = grow(f, v.ScontoMaggiorazione, c)
			f.fillScontoMaggiorazione(c, &v.ScontoMaggiorazione[len(v.ScontoMaggiorazione)-1])
		case tagPrezzoTotale:
			f.setDecimal(&v.PrezzoTotale, c)
		case tagAliquotaIVA:
			f.setDecimal(&v.AliquotaIVA, c)
		case tagRitenuta:
			f.setText(&v.Ritenuta, c)
		case tagNatura:
			f.setText(&v.Natura, c)
		case tagRiferimentoAmministrazione:
			f.setText(&v.RiferimentoAmministrazione, c)
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
			f.setDecimal(&v.AliquotaIVA, c)
		case tagNatura:
			f.setText(&v.Natura, c)
		case tagSpeseAccessorie:
			f.setDecimal(&v.SpeseAccessorie, c)
		case tagArrotondamento:
			f.setDecimal(&v.Arrotondamento, c)
		case tagImponibileImporto:
			f.setDecimal(&v.ImponibileImporto, c)
		case tagImposta:
			f.setDecimal(&v.Imposta, c)
		case tagEsigibilitaIVA:
			f.setText(&v.EsigibilitaIVA, c)
		case tagRiferimentoNormativo:
			f.setText(&v.RiferimentoNormativo, c)
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
			f.setDate(&v.Data, c)
		case tagTotalePercorso:
			f.setText(&v.TotalePercorso, c)
		}
	}
}

func (f *File) fillDettaglioPagamento(n NodeID, v *DettaglioPagamento) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagBeneficiario:
			f.setText(&v.Beneficiario, c)
		case tagModalitaPagamento:
			f.setText(&v.ModalitaPagamento, c)
		case tagDataRiferimentoTerminiPagamento:
			f.setDate(&v.DataRiferimentoTerminiPagamento, c)
		case tagGiorniTerminiPagamento:
			f.setText(&v.GiorniTerminiPagamento, c)
		case tagDataScadenzaPagamento:
			f.setDate(&v.DataScadenzaPagamento, c)
		case tagImportoPagamento:
			f.setDecimal(&v.ImportoPagamento, c)
		case tagCodUfficioPostale:
			f.setText(&v.CodUfficioPostale, c)
		case tagCognomeQuietanzante:
			f.setText(&v.CognomeQuietanzante, c)
		case tagNomeQuietanzante:
			f.setText(&v.NomeQuietanzante, c)
		case tagCFQuietanzante:
			f.setText(&v.CFQuietanzante, c)
		case tagTitoloQuietanzante:
			f.setText(&v.TitoloQuietanzante, c)
		case tagIstitutoFinanziario:
			f.setText(&v.IstitutoFinanziario, c)
		case tagIBAN:
			f.setText(&v.IBAN, c)
		case tagABI:
			f.setText(&v.ABI, c)
		case tagCAB:
			f.setText(&v.CAB, c)
		case tagBIC:
			f.setText(&v.BIC, c)
		case tagScontoPagamentoAnticipato:
			f.setDecimal(&v.ScontoPagamentoAnticipato, c)
		case tagDataLimitePagamentoAnticipato:
			f.setDate(&v.DataLimitePagamentoAnticipato, c)
		case tagPenalitaPagamentiRitardati:
			f.setDecimal(&v.PenalitaPagamentiRitardati, c)
		case tagDataDecorrenzaPenale:
			f.setDate(&v.DataDecorrenzaPenale, c)
		case tagCodicePagamento:
			f.setText(&v.CodicePagamento, c)
		}
	}
}

func (f *File) fillDatiPagamento(n NodeID, v *DatiPagamento) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagCondizioniPagamento:
			f.setText(&v.CondizioniPagamento, c)
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
			f.setText(&v.NomeAttachment, c)
		case tagAlgoritmoCompressione:
			f.setText(&v.AlgoritmoCompressione, c)
		case tagFormatoAttachment:
			f.setText(&v.FormatoAttachment, c)
		case tagDescrizioneAttachment:
			f.setText(&v.DescrizioneAttachment, c)
		case tagAttachment:
			f.setText(&v.Attachment, c)
		}
	}
}
