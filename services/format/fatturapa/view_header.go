package fatturapa

// Each fill function reads the children of one element into its block of the
// typed view. When an element that may occur once is repeated the first wins;
// the structure check reports the others, and the tree keeps them.

func (f *File) fillIdFiscale(n NodeID, v *IdFiscale) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagIdPaese:
			f.setText(&v.IdPaese, c)
		case tagIdCodice:
			f.setText(&v.IdCodice, c)
		}
	}
}

func (f *File) fillContatti(n NodeID, v *Contatti) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTelefono:
			f.setText(&v.Telefono, c)
		case tagFax:
			f.setText(&v.Fax, c)
		case tagEmail:
			f.setText(&v.Email, c)
		}
	}
}

func (f *File) fillDatiTrasmissione(n NodeID, v *DatiTrasmissione) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagIdTrasmittente:
			if v.IdTrasmittente.Node == 0 {
				f.fillIdFiscale(c, &v.IdTrasmittente)
			}
		case tagProgressivoInvio:
			f.setText(&v.ProgressivoInvio, c)
		case tagFormatoTrasmissione:
			f.setText(&v.FormatoTrasmissione, c)
		case tagCodiceDestinatario:
			f.setText(&v.CodiceDestinatario, c)
		case tagContattiTrasmittente:
			if v.ContattiTrasmittente == nil {
				v.ContattiTrasmittente = new(Contatti)
				f.fillContatti(c, v.ContattiTrasmittente)
			}
		case tagPECDestinatario:
			f.setText(&v.PECDestinatario, c)
		}
	}
}

func (f *File) fillAnagrafica(n NodeID, v *Anagrafica) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDenominazione:
			f.setText(&v.Denominazione, c)
		case tagNome:
			f.setText(&v.Nome, c)
		case tagCognome:
			f.setText(&v.Cognome, c)
		case tagTitolo:
			f.setText(&v.Titolo, c)
		case tagCodEORI:
			f.setText(&v.CodEORI, c)
		}
	}
}

func (f *File) fillDatiAnagrafici(n NodeID, v *DatiAnagrafici) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagIdFiscaleIVA:
			if v.IdFiscaleIVA.Node == 0 {
				f.fillIdFiscale(c, &v.IdFiscaleIVA)
			}
		case tagCodiceFiscale:
			f.setText(&v.CodiceFiscale, c)
		case tagAnagrafica:
			if v.Anagrafica.Node == 0 {
				f.fillAnagrafica(c, &v.Anagrafica)
			}
		case tagAlboProfessionale:
			f.setText(&v.AlboProfessionale, c)
		case tagProvinciaAlbo:
			f.setText(&v.ProvinciaAlbo, c)
		case tagNumeroIscrizioneAlbo:
			f.setText(&v.NumeroIscrizioneAlbo, c)
		case tagDataIscrizioneAlbo:
			f.setDate(&v.DataIscrizioneAlbo, c)
		case tagRegimeFiscale:
			f.setText(&v.RegimeFiscale, c)
		case tagNumeroLicenzaGuida:
			f.setText(&v.NumeroLicenzaGuida, c)
		}
	}
}

func (f *File) fillIndirizzo(n NodeID, v *Indirizzo) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagIndirizzo:
			f.setText(&v.Indirizzo, c)
		case tagNumeroCivico:
			f.setText(&v.NumeroCivico, c)
		case tagCAP:
			f.setText(&v.CAP, c)
		case tagComune:
			f.setText(&v.Comune, c)
		case tagProvincia:
			f.setText(&v.Provincia, c)
		case tagNazione:
			f.setText(&v.Nazione, c)
		}
	}
}

func (f *File) fillIscrizioneREA(n NodeID, v *IscrizioneREA) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagUfficio:
			f.setText(&v.Ufficio, c)
		case tagNumeroREA:
			f.setText(&v.NumeroREA, c)
		case tagCapitaleSociale:
			f.setDecimal(&v.CapitaleSociale, c)
		case tagSocioUnico:
			f.setText(&v.SocioUnico, c)
		case tagStatoLiquidazione:
			f.setText(&v.StatoLiquidazione, c)
		}
	}
}

func (f *File) fillCedentePrestatore(n NodeID, v *CedentePrestatore) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDatiAnagrafici:
			if v.DatiAnagrafici.Node == 0 {
				f.fillDatiAnagrafici(c, &v.DatiAnagrafici)
			}
		case tagSede:
			if v.Sede.Node == 0 {
				f.fillIndirizzo(c, &v.Sede)
			}
		case tagStabileOrganizzazione:
			if v.StabileOrganizzazione == nil {
				v.StabileOrganizzazione = new(Indirizzo)
				f.fillIndirizzo(c, v.StabileOrganizzazione)
			}
		case tagIscrizioneREA:
			if v.IscrizioneREA == nil {
				v.IscrizioneREA = new(IscrizioneREA)
				f.fillIscrizioneREA(c, v.IscrizioneREA)
			}
		case tagContatti:
			if v.Contatti == nil {
				v.Contatti = new(Contatti)
				f.fillContatti(c, v.Contatti)
			}
		case tagRiferimentoAmministrazione:
			f.setText(&v.RiferimentoAmministrazione, c)
		case tagRappresentanteFiscale:
			if v.RappresentanteFiscale == nil {
				v.RappresentanteFiscale = new(Rappresentante)
				f.fillRappresentante(c, v.RappresentanteFiscale)
			}
		case tagIdFiscaleIVA, tagCodiceFiscale, tagDenominazione, tagNome, tagCognome, tagRegimeFiscale:
			f.fillFlat(n, c, &v.DatiAnagrafici)
		}
	}
}

func (f *File) fillRappresentante(n NodeID, v *Rappresentante) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDatiAnagrafici:
			if v.DatiAnagrafici.Node == 0 {
				f.fillDatiAnagrafici(c, &v.DatiAnagrafici)
			}
		case tagIdFiscaleIVA, tagCodiceFiscale, tagDenominazione, tagNome, tagCognome:
			f.fillFlat(n, c, &v.DatiAnagrafici)
		}
	}
}

func (f *File) fillCessionarioCommittente(n NodeID, v *CessionarioCommittente) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDatiAnagrafici:
			if v.DatiAnagrafici.Node == 0 {
				f.fillDatiAnagrafici(c, &v.DatiAnagrafici)
			}
		case tagSede:
			if v.Sede.Node == 0 {
				f.fillIndirizzo(c, &v.Sede)
			}
		case tagStabileOrganizzazione:
			if v.StabileOrganizzazione == nil {
				v.StabileOrganizzazione = new(Indirizzo)
				f.fillIndirizzo(c, v.StabileOrganizzazione)
			}
		case tagRappresentanteFiscale:
			if v.RappresentanteFiscale == nil {
				v.RappresentanteFiscale = new(Rappresentante)
				f.fillRappresentante(c, v.RappresentanteFiscale)
			}
		case tagIdentificativiFiscali, tagAltriDatiIdentificativi:
			f.fillBuyer(c, v)
		}
	}
}

func (f *File) fillHeader(n NodeID, v *Header) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDatiTrasmissione:
			if v.DatiTrasmissione.Node == 0 {
				f.fillDatiTrasmissione(c, &v.DatiTrasmissione)
			}
		case tagCedentePrestatore:
			if v.CedentePrestatore.Node == 0 {
				f.fillCedentePrestatore(c, &v.CedentePrestatore)
			}
		case tagRappresentanteFiscale:
			if v.RappresentanteFiscale == nil {
				v.RappresentanteFiscale = new(Rappresentante)
				f.fillRappresentante(c, v.RappresentanteFiscale)
			}
		case tagCessionarioCommittente:
			if v.CessionarioCommittente.Node == 0 {
				f.fillCessionarioCommittente(c, &v.CessionarioCommittente)
			}
		case tagTerzoIntermediarioOSoggettoEmittente:
			if v.TerzoIntermediarioOSoggettoEmittente == nil {
				v.TerzoIntermediarioOSoggettoEmittente = new(Rappresentante)
				f.fillRappresentante(c, v.TerzoIntermediarioOSoggettoEmittente)
			}
		case tagSoggettoEmittente:
			f.setText(&v.SoggettoEmittente, c)
		}
	}
}

func (f *File) fillDatiRitenuta(n NodeID, v *DatiRitenuta) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipoRitenuta:
			f.setText(&v.TipoRitenuta, c)
		case tagImportoRitenuta:
			f.setDecimal(&v.ImportoRitenuta, c)
		case tagAliquotaRitenuta:
			f.setDecimal(&v.AliquotaRitenuta, c)
		case tagCausalePagamento:
			f.setText(&v.CausalePagamento, c)
		}
	}
}

func (f *File) fillDatiBollo(n NodeID, v *DatiBollo) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagBolloVirtuale:
			f.setText(&v.BolloVirtuale, c)
		case tagNumeroBollo:
			f.setText(&v.NumeroBollo, c)
		case tagImportoBollo:
			f.setDecimal(&v.ImportoBollo, c)
		}
	}
}

func (f *File) fillDatiCassaPrevidenziale(n NodeID, v *DatiCassaPrevidenziale) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipoCassa:
			f.setText(&v.TipoCassa, c)
		case tagAlCassa:
			f.setDecimal(&v.AlCassa, c)
		case tagImportoContributoCassa:
			f.setDecimal(&v.ImportoContributoCassa, c)
		case tagImponibileCassa:
			f.setDecimal(&v.ImponibileCassa, c)
		case tagAliquotaIVA:
			f.setDecimal(&v.AliquotaIVA, c)
		case tagRitenuta:
			f.setText(&v.Ritenuta, c)
		case tagNatura:
			f.setText(&v.Natura, c)
		case tagRiferimentoAmministrazione:
			f.setText(&v.RiferimentoAmministrazione, c)
		}
	}
}

func (f *File) fillScontoMaggiorazione(n NodeID, v *ScontoMaggiorazione) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipo:
			f.setText(&v.Tipo, c)
		case tagPercentuale:
			f.setDecimal(&v.Percentuale, c)
		case tagImporto:
			f.setDecimal(&v.Importo, c)
		}
	}
}

func (f *File) fillDatiGeneraliDocumento(n NodeID, v *DatiGeneraliDocumento) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipoDocumento:
			f.setText(&v.TipoDocumento, c)
		case tagDivisa:
			f.setText(&v.Divisa, c)
		case tagData:
			f.setDate(&v.Data, c)
		case tagNumero:
			f.setText(&v.Numero, c)
		case tagDatiRitenuta:
			v.DatiRitenuta = grow(f, v.DatiRitenuta, c)
			f.fillDatiRitenuta(c, &v.DatiRitenuta[len(v.DatiRitenuta)-1])
		case tagDatiBollo:
			if v.DatiBollo == nil {
				v.DatiBollo = new(DatiBollo)
				f.fillDatiBollo(c, v.DatiBollo)
			}
		case tagDatiCassaPrevidenziale:
			v.DatiCassaPrevidenziale = grow(f, v.DatiCassaPrevidenziale, c)
			f.fillDatiCassaPrevidenziale(c, &v.DatiCassaPrevidenziale[len(v.DatiCassaPrevidenziale)-1])
		case tagScontoMaggiorazione:
			v.ScontoMaggiorazione = grow(f, v.ScontoMaggiorazione, c)
			f.fillScontoMaggiorazione(c, &v.ScontoMaggiorazione[len(v.ScontoMaggiorazione)-1])
		case tagImportoTotaleDocumento:
			f.setDecimal(&v.ImportoTotaleDocumento, c)
		case tagArrotondamento:
			f.setDecimal(&v.Arrotondamento, c)
		case tagCausale:
			v.Causale = append(v.Causale, f.text(c))
		case tagArt73:
			f.setText(&v.Art73, c)
		case tagBolloVirtuale: // simplified invoices have no block around it
			if v.DatiBollo == nil {
				v.DatiBollo = &DatiBollo{Node: c, BolloVirtuale: f.text(c)}
			}
		}
	}
}
