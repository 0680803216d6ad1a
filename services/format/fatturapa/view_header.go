package fatturapa

// Each fill function reads the children of one element into its block of the
// typed view. When an element that may occur once is repeated the first wins;
// the structure check reports the others, and the tree keeps them.

func (f *File) fillIdFiscale(n NodeID, v *IdFiscale) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagIdPaese:
			if v.IdPaese == "" {
				v.IdPaese = f.text(c)
			}
		case tagIdCodice:
			if v.IdCodice == "" {
				v.IdCodice = f.text(c)
			}
		}
	}
}

func (f *File) fillContatti(n NodeID, v *Contatti) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTelefono:
			if v.Telefono == "" {
				v.Telefono = f.text(c)
			}
		case tagFax:
			if v.Fax == "" {
				v.Fax = f.text(c)
			}
		case tagEmail:
			if v.Email == "" {
				v.Email = f.text(c)
			}
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
			if v.ProgressivoInvio == "" {
				v.ProgressivoInvio = f.text(c)
			}
		case tagFormatoTrasmissione:
			if v.FormatoTrasmissione == "" {
				v.FormatoTrasmissione = f.text(c)
			}
		case tagCodiceDestinatario:
			if v.CodiceDestinatario == "" {
				v.CodiceDestinatario = f.text(c)
			}
		case tagContattiTrasmittente:
			if v.ContattiTrasmittente == nil {
				v.ContattiTrasmittente = new(Contatti)
				f.fillContatti(c, v.ContattiTrasmittente)
			}
		case tagPECDestinatario:
			if v.PECDestinatario == "" {
				v.PECDestinatario = f.text(c)
			}
		}
	}
}

func (f *File) fillAnagrafica(n NodeID, v *Anagrafica) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDenominazione:
			if v.Denominazione == "" {
				v.Denominazione = f.text(c)
			}
		case tagNome:
			if v.Nome == "" {
				v.Nome = f.text(c)
			}
		case tagCognome:
			if v.Cognome == "" {
				v.Cognome = f.text(c)
			}
		case tagTitolo:
			if v.Titolo == "" {
				v.Titolo = f.text(c)
			}
		case tagCodEORI:
			if v.CodEORI == "" {
				v.CodEORI = f.text(c)
			}
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
			if v.CodiceFiscale == "" {
				v.CodiceFiscale = f.text(c)
			}
		case tagAnagrafica:
			if v.Anagrafica.Node == 0 {
				f.fillAnagrafica(c, &v.Anagrafica)
			}
		case tagAlboProfessionale:
			if v.AlboProfessionale == "" {
				v.AlboProfessionale = f.text(c)
			}
		case tagProvinciaAlbo:
			if v.ProvinciaAlbo == "" {
				v.ProvinciaAlbo = f.text(c)
			}
		case tagNumeroIscrizioneAlbo:
			if v.NumeroIscrizioneAlbo == "" {
				v.NumeroIscrizioneAlbo = f.text(c)
			}
		case tagDataIscrizioneAlbo:
			if v.DataIscrizioneAlbo == "" {
				v.DataIscrizioneAlbo = Date(trim(f.text(c)))
			}
		case tagRegimeFiscale:
			if v.RegimeFiscale == "" {
				v.RegimeFiscale = f.text(c)
			}
		case tagNumeroLicenzaGuida:
			if v.NumeroLicenzaGuida == "" {
				v.NumeroLicenzaGuida = f.text(c)
			}
		}
	}
}

func (f *File) fillIndirizzo(n NodeID, v *Indirizzo) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagIndirizzo:
			if v.Indirizzo == "" {
				v.Indirizzo = f.text(c)
			}
		case tagNumeroCivico:
			if v.NumeroCivico == "" {
				v.NumeroCivico = f.text(c)
			}
		case tagCAP:
			if v.CAP == "" {
				v.CAP = f.text(c)
			}
		case tagComune:
			if v.Comune == "" {
				v.Comune = f.text(c)
			}
		case tagProvincia:
			if v.Provincia == "" {
				v.Provincia = f.text(c)
			}
		case tagNazione:
			if v.Nazione == "" {
				v.Nazione = f.text(c)
			}
		}
	}
}

func (f *File) fillIscrizioneREA(n NodeID, v *IscrizioneREA) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagUfficio:
			if v.Ufficio == "" {
				v.Ufficio = f.text(c)
			}
		case tagNumeroREA:
			if v.NumeroREA == "" {
				v.NumeroREA = f.text(c)
			}
		case tagCapitaleSociale:
			if !v.CapitaleSociale.IsSet() {
				v.CapitaleSociale = f.decimal(c)
			}
		case tagSocioUnico:
			if v.SocioUnico == "" {
				v.SocioUnico = f.text(c)
			}
		case tagStatoLiquidazione:
			if v.StatoLiquidazione == "" {
				v.StatoLiquidazione = f.text(c)
			}
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
			if v.RiferimentoAmministrazione == "" {
				v.RiferimentoAmministrazione = f.text(c)
			}
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
			if v.SoggettoEmittente == "" {
				v.SoggettoEmittente = f.text(c)
			}
		}
	}
}

func (f *File) fillDatiRitenuta(n NodeID, v *DatiRitenuta) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipoRitenuta:
			if v.TipoRitenuta == "" {
				v.TipoRitenuta = f.text(c)
			}
		case tagImportoRitenuta:
			if !v.ImportoRitenuta.IsSet() {
				v.ImportoRitenuta = f.decimal(c)
			}
		case tagAliquotaRitenuta:
			if !v.AliquotaRitenuta.IsSet() {
				v.AliquotaRitenuta = f.decimal(c)
			}
		case tagCausalePagamento:
			if v.CausalePagamento == "" {
				v.CausalePagamento = f.text(c)
			}
		}
	}
}

func (f *File) fillDatiBollo(n NodeID, v *DatiBollo) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagBolloVirtuale:
			if v.BolloVirtuale == "" {
				v.BolloVirtuale = f.text(c)
			}
		case tagNumeroBollo:
			if v.NumeroBollo == "" {
				v.NumeroBollo = f.text(c)
			}
		case tagImportoBollo:
			if !v.ImportoBollo.IsSet() {
				v.ImportoBollo = f.decimal(c)
			}
		}
	}
}

func (f *File) fillDatiCassaPrevidenziale(n NodeID, v *DatiCassaPrevidenziale) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipoCassa:
			if v.TipoCassa == "" {
				v.TipoCassa = f.text(c)
			}
		case tagAlCassa:
			if !v.AlCassa.IsSet() {
				v.AlCassa = f.decimal(c)
			}
		case tagImportoContributoCassa:
			if !v.ImportoContributoCassa.IsSet() {
				v.ImportoContributoCassa = f.decimal(c)
			}
		case tagImponibileCassa:
			if !v.ImponibileCassa.IsSet() {
				v.ImponibileCassa = f.decimal(c)
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
		}
	}
}

func (f *File) fillScontoMaggiorazione(n NodeID, v *ScontoMaggiorazione) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipo:
			if v.Tipo == "" {
				v.Tipo = f.text(c)
			}
		case tagPercentuale:
			if !v.Percentuale.IsSet() {
				v.Percentuale = f.decimal(c)
			}
		case tagImporto:
			if !v.Importo.IsSet() {
				v.Importo = f.decimal(c)
			}
		}
	}
}

func (f *File) fillDatiGeneraliDocumento(n NodeID, v *DatiGeneraliDocumento) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagTipoDocumento:
			if v.TipoDocumento == "" {
				v.TipoDocumento = f.text(c)
			}
		case tagDivisa:
			if v.Divisa == "" {
				v.Divisa = f.text(c)
			}
		case tagData:
			if v.Data == "" {
				v.Data = Date(trim(f.text(c)))
			}
		case tagNumero:
			if v.Numero == "" {
				v.Numero = f.text(c)
			}
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
			if !v.ImportoTotaleDocumento.IsSet() {
				v.ImportoTotaleDocumento = f.decimal(c)
			}
		case tagArrotondamento:
			if !v.Arrotondamento.IsSet() {
				v.Arrotondamento = f.decimal(c)
			}
		case tagCausale:
			v.Causale = append(v.Causale, f.text(c))
		case tagArt73:
			if v.Art73 == "" {
				v.Art73 = f.text(c)
			}
		case tagBolloVirtuale: // simplified invoices have no block around it
			if v.DatiBollo == nil {
				v.DatiBollo = &DatiBollo{Node: c, BolloVirtuale: f.text(c)}
			}
		}
	}
}
