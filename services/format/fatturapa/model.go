package fatturapa

// The typed view. A text field that is "" and a Decimal that is not set were
// not in the file; a block with Node 0 was not in the file. Values are as the
// file writes them, references resolved, without white space at the ends for
// numbers and dates. Node leads back to the element, its line and its path.

// IdFiscale identifies a subject for VAT: country and code.
type IdFiscale struct {
	Node     NodeID
	IdPaese  string
	IdCodice string
}

// Contatti are the contact data of a subject.
type Contatti struct {
	Node     NodeID
	Telefono string
	Fax      string
	Email    string
}

// DatiTrasmissione says who transmits, what and to whom.
type DatiTrasmissione struct {
	Node                 NodeID
	IdTrasmittente       IdFiscale
	ProgressivoInvio     string
	FormatoTrasmissione  string
	CodiceDestinatario   string
	ContattiTrasmittente *Contatti
	PECDestinatario      string
}

// Anagrafica names a subject: Denominazione, or Nome and Cognome.
type Anagrafica struct {
	Node          NodeID
	Denominazione string
	Nome          string
	Cognome       string
	Titolo        string
	CodEORI       string
}

// DatiAnagrafici holds the identity of a subject. The professional register and
// RegimeFiscale are there for the seller only, NumeroLicenzaGuida for the carrier only.
type DatiAnagrafici struct {
	Node                 NodeID
	IdFiscaleIVA         IdFiscale
	CodiceFiscale        string
	Anagrafica           Anagrafica
	AlboProfessionale    string
	ProvinciaAlbo        string
	NumeroIscrizioneAlbo string
	DataIscrizioneAlbo   Date
	RegimeFiscale        string
	NumeroLicenzaGuida   string
}

// Indirizzo is a postal address.
type Indirizzo struct {
	Node         NodeID
	Indirizzo    string
	NumeroCivico string
	CAP          string
	Comune       string
	Provincia    string
	Nazione      string
}

// IscrizioneREA is the entry of a company in the business register.
type IscrizioneREA struct {
	Node              NodeID
	Ufficio           string
	NumeroREA         string
	CapitaleSociale   Decimal
	SocioUnico        string
	StatoLiquidazione string
}

// CedentePrestatore is the seller. RappresentanteFiscale is set here in simplified
// invoices only; ordinary ones keep it in the Header.
type CedentePrestatore struct {
	Node                       NodeID
	DatiAnagrafici             DatiAnagrafici
	Sede                       Indirizzo
	StabileOrganizzazione      *Indirizzo
	IscrizioneREA              *IscrizioneREA
	Contatti                   *Contatti
	RiferimentoAmministrazione string
	RappresentanteFiscale      *Rappresentante
}

// Rappresentante is a tax representative or the third party that issues the invoice.
type Rappresentante struct {
	Node           NodeID
	DatiAnagrafici DatiAnagrafici
}

// CessionarioCommittente is the buyer.
type CessionarioCommittente struct {
	Node                  NodeID
	DatiAnagrafici        DatiAnagrafici
	Sede                  Indirizzo
	StabileOrganizzazione *Indirizzo
	RappresentanteFiscale *Rappresentante
}

// Header is FatturaElettronicaHeader: one for the whole file.
type Header struct {
	Node                                 NodeID
	DatiTrasmissione                     DatiTrasmissione
	CedentePrestatore                    CedentePrestatore
	RappresentanteFiscale                *Rappresentante
	CessionarioCommittente               CessionarioCommittente
	TerzoIntermediarioOSoggettoEmittente *Rappresentante
	SoggettoEmittente                    string
}

// DatiRitenuta is a withholding.
type DatiRitenuta struct {
	Node             NodeID
	TipoRitenuta     string
	ImportoRitenuta  Decimal
	AliquotaRitenuta Decimal
	CausalePagamento string
}

// DatiBollo is the stamp duty. NumeroBollo exists in archive files only.
type DatiBollo struct {
	Node          NodeID
	BolloVirtuale string
	NumeroBollo   string
	ImportoBollo  Decimal
}

// DatiCassaPrevidenziale is a contribution to a professional pension fund.
type DatiCassaPrevidenziale struct {
	Node                       NodeID
	TipoCassa                  string
	AlCassa                    Decimal
	ImportoContributoCassa     Decimal
	ImponibileCassa            Decimal
	AliquotaIVA                Decimal
	Ritenuta                   string
	Natura                     string
	RiferimentoAmministrazione string
}

// ScontoMaggiorazione is a discount (SC) or a surcharge (MG).
type ScontoMaggiorazione struct {
	Node        NodeID
	Tipo        string
	Percentuale Decimal
	Importo     Decimal
}

// DatiGeneraliDocumento holds the main data of one document. In simplified
// invoices BolloVirtuale is read into DatiBollo.
type DatiGeneraliDocumento struct {
	Node                   NodeID
	TipoDocumento          string
	Divisa                 string
	Data                   Date
	Numero                 string
	DatiRitenuta           []DatiRitenuta
	DatiBollo              *DatiBollo
	DatiCassaPrevidenziale []DatiCassaPrevidenziale
	ScontoMaggiorazione    []ScontoMaggiorazione
	ImportoTotaleDocumento Decimal
	Arrotondamento         Decimal
	Causale                []string
	Art73                  string
}

// DatiDocumentiCorrelati refers to an order, contract, agreement, receipt or invoice.
type DatiDocumentiCorrelati struct {
	Node                      NodeID
	RiferimentoNumeroLinea    []int
	IdDocumento               string
	Data                      Date
	NumItem                   string
	CodiceCommessaConvenzione string
	CodiceCUP                 string
	CodiceCIG                 string
}

// DatiSAL refers to a stage of works.
type DatiSAL struct {
	Node            NodeID
	RiferimentoFase int
}

// DatiDDT refers to a transport document.
type DatiDDT struct {
	Node                   NodeID
	NumeroDDT              string
	DataDDT                Date
	RiferimentoNumeroLinea []int
}

// DatiTrasporto holds the data of an accompanying invoice.
type DatiTrasporto struct {
	Node                  NodeID
	DatiAnagraficiVettore *DatiAnagrafici
	MezzoTrasporto        string
	CausaleTrasporto      string
	NumeroColli           int
	Descrizione           string
	UnitaMisuraPeso       string
	PesoLordo             Decimal
	PesoNetto             Decimal
	DataOraRitiro         string
	DataInizioTrasporto   Date
	TipoResa              string
	IndirizzoResa         *Indirizzo
	DataOraConsegna       string
}

// FatturaPrincipale refers to the main invoice of an accessory one.
type FatturaPrincipale struct {
	Node                    NodeID
	NumeroFatturaPrincipale string
	DataFatturaPrincipale   Date
}

// DatiFatturaRettificata refers to the invoice that a simplified document corrects.
type DatiFatturaRettificata struct {
	Node                NodeID
	NumeroFR            string
	DataFR              Date
	ElementiRettificati string
}

// DatiGenerali groups the general data. DatiFatturaRettificata is of simplified
// invoices, NormaDiRiferimento of archive files.
type DatiGenerali struct {
	Node                   NodeID
	DatiGeneraliDocumento  DatiGeneraliDocumento
	DatiOrdineAcquisto     []DatiDocumentiCorrelati
	DatiContratto          []DatiDocumentiCorrelati
	DatiConvenzione        []DatiDocumentiCorrelati
	DatiRicezione          []DatiDocumentiCorrelati
	DatiFattureCollegate   []DatiDocumentiCorrelati
	DatiSAL                []DatiSAL
	DatiDDT                []DatiDDT
	DatiTrasporto          *DatiTrasporto
	NormaDiRiferimento     string
	FatturaPrincipale      *FatturaPrincipale
	DatiFatturaRettificata *DatiFatturaRettificata
}

// CodiceArticolo is a code of a product.
type CodiceArticolo struct {
	Node         NodeID
	CodiceTipo   string
	CodiceValore string
}

// AltriDatiGestionali is free data on a line; some TipoDato have a legal meaning.
type AltriDatiGestionali struct {
	Node              NodeID
	TipoDato          string
	RiferimentoTesto  string
	RiferimentoNumero Decimal
	RiferimentoData   Date
}

// DettaglioLinee is one line of an ordinary invoice.
type DettaglioLinee struct {
	Node                       NodeID
	NumeroLinea                int
	TipoCessionePrestazione    string
	CodiceArticolo             []CodiceArticolo
	Descrizione                string
	Quantita                   Decimal
	UnitaMisura                string
	DataInizioPeriodo          Date
	DataFinePeriodo            Date
	PrezzoUnitario             Decimal
	ScontoMaggiorazione        []ScontoMaggiorazione
	PrezzoTotale               Decimal
	AliquotaIVA                Decimal
	Ritenuta                   string
	Natura                     string
	RiferimentoAmministrazione string
	AltriDatiGestionali        []AltriDatiGestionali
}

// DatiRiepilogo is a summary by VAT rate or nature.
type DatiRiepilogo struct {
	Node                 NodeID
	AliquotaIVA          Decimal
	Natura               string
	SpeseAccessorie      Decimal
	Arrotondamento       Decimal
	ImponibileImporto    Decimal
	Imposta              Decimal
	EsigibilitaIVA       string
	RiferimentoNormativo string
}

// DatiBeniServizi holds lines and summaries of an ordinary invoice.
type DatiBeniServizi struct {
	Node           NodeID
	DettaglioLinee []DettaglioLinee
	DatiRiepilogo  []DatiRiepilogo
}

// DatiVeicoli holds data on new means of transport.
type DatiVeicoli struct {
	Node           NodeID
	Data           Date
	TotalePercorso string
}

// DettaglioPagamento is one way or instalment of payment.
type DettaglioPagamento struct {
	Node                            NodeID
	Beneficiario                    string
	ModalitaPagamento               string
	DataRiferimentoTerminiPagamento Date
	GiorniTerminiPagamento          string
	DataScadenzaPagamento           Date
	ImportoPagamento                Decimal
	CodUfficioPostale               string
	CognomeQuietanzante             string
	NomeQuietanzante                string
	CFQuietanzante                  string
	TitoloQuietanzante              string
	IstitutoFinanziario             string
	IBAN                            string
	ABI                             string
	CAB                             string
	BIC                             string
	ScontoPagamentoAnticipato       Decimal
	DataLimitePagamentoAnticipato   Date
	PenalitaPagamentiRitardati      Decimal
	DataDecorrenzaPenale            Date
	CodicePagamento                 string
}

// DatiPagamento holds the terms of payment.
type DatiPagamento struct {
	Node                NodeID
	CondizioniPagamento string
	DettaglioPagamento  []DettaglioPagamento
}

// Allegato is an attachment; Attachment is its base64 text.
type Allegato struct {
	Node                  NodeID
	NomeAttachment        string
	AlgoritmoCompressione string
	FormatoAttachment     string
	DescrizioneAttachment string
	Attachment            string
}

// BeneServizio is one line of a simplified invoice. Imposta and Aliquota come
// from its DatiIVA.
type BeneServizio struct {
	Node                 NodeID
	Descrizione          string
	Importo              Decimal
	Imposta              Decimal
	Aliquota             Decimal
	Natura               string
	RiferimentoNormativo string
}

// Body is FatturaElettronicaBody: one document. BeniServizi holds the lines of a
// simplified invoice, DatiBeniServizi those of an ordinary one.
type Body struct {
	Node            NodeID
	DatiGenerali    DatiGenerali
	DatiBeniServizi DatiBeniServizi
	DatiVeicoli     *DatiVeicoli
	DatiPagamento   []DatiPagamento
	Allegati        []Allegato
	BeniServizi     []BeneServizio
}
