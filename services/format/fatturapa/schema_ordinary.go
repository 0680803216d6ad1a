package fatturapa

// The tables in schema_*.go say what the official schemas say, in a notation of
// our own that schema_compile.go reads:
//
//	type NAME [mixed]        a complex type; the lines below are its content, in order
//	  ELEMENT TYPE [?|*|+]   an element, once unless marked
//	  choice[?|*|+] or end   alternatives
//	  any other|any lax|strict [?|*]
//	  attr NAME TYPE [!]     an attribute, required with !
//	simple NAME KIND ...     a simple type, see simpleType
//	enum NAME VALUE...       a closed list; A01-A09 is a range
//	  + VALUE... since V     more values, in some versions only
//
// "since V" and "until V" (both inclusive) limit a line to versions of the
// schema. One table thus holds every version, and what changed can be read.
//
// spec: schemas FatturaPA 1.0, 1.1, 1.2, 1.2.1, 1.2.2 and VFPR12 1.2.3

var ordinaryVersions = []string{"1.0", "1.1", "1.2", "1.2.1", "1.2.2", "1.2.3"}

const ordinaryTable = `
type FatturaElettronicaType
  FatturaElettronicaHeader FatturaElettronicaHeaderType
  FatturaElettronicaBody FatturaElettronicaBodyType +
  ds:Signature ds:SignatureType ?
  attr versione VersioneType !
  attr SistemaEmittente String10Type since 1.2.1

type FatturaElettronicaHeaderType
  DatiTrasmissione DatiTrasmissioneType
  CedentePrestatore CedentePrestatoreType
  RappresentanteFiscale RappresentanteFiscaleType ?
  CessionarioCommittente CessionarioCommittenteType
  TerzoIntermediarioOSoggettoEmittente TerzoIntermediarioSoggettoEmittenteType ?
  SoggettoEmittente SoggettoEmittenteType ?

type FatturaElettronicaBodyType
  DatiGenerali DatiGeneraliType
  DatiBeniServizi DatiBeniServiziType
  DatiVeicoli DatiVeicoliType ?
  DatiPagamento DatiPagamentoType *
  Allegati AllegatiType *

type DatiTrasmissioneType
  IdTrasmittente IdFiscaleType
  ProgressivoInvio String10Type
  FormatoTrasmissione FormatoTrasmissioneType
  CodiceDestinatario CodiceDestinatarioType
  ContattiTrasmittente ContattiTrasmittenteType ?
  PECDestinatario EmailType ? since 1.2

type ContattiTrasmittenteType
  Telefono TelFaxType ?
  Email EmailType ? until 1.2.1
  Email EmailContattiType ? since 1.2.2

type DatiGeneraliType
  DatiGeneraliDocumento DatiGeneraliDocumentoType
  DatiOrdineAcquisto DatiDocumentiCorrelatiType *
  DatiContratto DatiDocumentiCorrelatiType *
  DatiConvenzione DatiDocumentiCorrelatiType *
  DatiRicezione DatiDocumentiCorrelatiType *
  DatiFattureCollegate DatiDocumentiCorrelatiType *
  DatiSAL DatiSALType *
  DatiDDT DatiDDTType *
  DatiTrasporto DatiTrasportoType ?
  NormaDiRiferimento String100LatinType ? until 1.0
  FatturaPrincipale FatturaPrincipaleType ?

type DatiGeneraliDocumentoType
  TipoDocumento TipoDocumentoType
  Divisa DivisaType
  Data date until 1.0
  Data DataFatturaType since 1.1
  Numero String20Type
  DatiRitenuta DatiRitenutaType ? until 1.2
  DatiRitenuta DatiRitenutaType * since 1.2.1
  DatiBollo DatiBolloType ?
  DatiCassaPrevidenziale DatiCassaPrevidenzialeType *
  ScontoMaggiorazione ScontoMaggiorazioneType *
  ImportoTotaleDocumento Amount2DecimalType ?
  Arrotondamento Amount2DecimalType ?
  Causale String200LatinType ? until 1.0
  Causale String200LatinType * since 1.1
  Art73 Art73Type ?

type DatiRitenutaType
  TipoRitenuta TipoRitenutaType
  ImportoRitenuta Amount2DecimalType
  AliquotaRitenuta RateType
  CausalePagamento CausalePagamentoType

type DatiBolloType
  NumeroBollo NumeroBolloType until 1.0
  BolloVirtuale BolloVirtualeType since 1.1
  ImportoBollo Amount2DecimalType until 1.2
  ImportoBollo Amount2DecimalType ? since 1.2.1

type DatiCassaPrevidenzialeType
  TipoCassa TipoCassaType
  AlCassa RateType
  ImportoContributoCassa Amount2DecimalType
  ImponibileCassa Amount2DecimalType ?
  AliquotaIVA RateType
  Ritenuta RitenutaType ?
  Natura NaturaType ?
  RiferimentoAmministrazione String20Type ?

type ScontoMaggiorazioneType
  Tipo TipoScontoMaggiorazioneType
  Percentuale RateType ?
  Importo Amount2DecimalType ? until 1.2
  Importo Amount8DecimalType ? since 1.2.1

type DatiSALType
  RiferimentoFase RiferimentoFaseType

type DatiDocumentiCorrelatiType
  RiferimentoNumeroLinea NumeroLineaType *
  IdDocumento String20Type
  Data date ?
  NumItem String20Type ?
  CodiceCommessaConvenzione String100LatinType ?
  CodiceCUP String15Type ?
  CodiceCIG String15Type ?

type DatiDDTType
  NumeroDDT String20Type
  DataDDT date
  RiferimentoNumeroLinea NumeroLineaType *

type DatiTrasportoType
  DatiAnagraficiVettore DatiAnagraficiVettoreType ?
  MezzoTrasporto String80LatinType ?
  CausaleTrasporto String100LatinType ?
  NumeroColli NumeroColliType ?
  Descrizione String100LatinType ?
  UnitaMisuraPeso String10Type ?
  PesoLordo PesoType ?
  PesoNetto PesoType ?
  DataOraRitiro dateTime ?
  DataInizioTrasporto date ?
  TipoResa TipoResaType ?
  IndirizzoResa IndirizzoType ?
  DataOraConsegna dateTime ?

type IndirizzoType
  Indirizzo String60LatinType
  NumeroCivico NumeroCivicoType ?
  CAP CAPType
  Comune String60LatinType
  Provincia ProvinciaType ?
  Nazione NazioneType default IT

type FatturaPrincipaleType
  NumeroFatturaPrincipale String20Type
  DataFatturaPrincipale date

type CedentePrestatoreType
  DatiAnagrafici DatiAnagraficiCedenteType
  Sede IndirizzoType
  StabileOrganizzazione IndirizzoType ?
  IscrizioneREA IscrizioneREAType ?
  Contatti ContattiType ?
  RiferimentoAmministrazione String20Type ?

type DatiAnagraficiCedenteType
  IdFiscaleIVA IdFiscaleType
  CodiceFiscale CodiceFiscaleType ?
  Anagrafica AnagraficaType
  AlboProfessionale String60LatinType ?
  ProvinciaAlbo ProvinciaType ?
  NumeroIscrizioneAlbo String60Type ?
  DataIscrizioneAlbo date ?
  RegimeFiscale RegimeFiscaleType

type IdFiscaleType
  IdPaese NazioneType
  IdCodice CodiceType

type AnagraficaType
  choice
    Denominazione String80LatinType
  or
    Nome String60LatinType
    Cognome String60LatinType
  end
  Titolo TitoloType ?
  CodEORI CodEORIType ?

type DatiAnagraficiVettoreType
  IdFiscaleIVA IdFiscaleType
  CodiceFiscale CodiceFiscaleType ?
  Anagrafica AnagraficaType
  NumeroLicenzaGuida String20Type ?

type IscrizioneREAType
  Ufficio ProvinciaType
  NumeroREA String20Type
  CapitaleSociale Amount2DecimalType ?
  SocioUnico SocioUnicoType ?
  StatoLiquidazione StatoLiquidazioneType

type ContattiType
  Telefono TelFaxType ?
  Fax TelFaxType ?
  Email EmailType ? until 1.2.1
  Email EmailContattiType ? since 1.2.2

type RappresentanteFiscaleType
  DatiAnagrafici DatiAnagraficiRappresentanteType

type DatiAnagraficiRappresentanteType
  IdFiscaleIVA IdFiscaleType
  CodiceFiscale CodiceFiscaleType ?
  Anagrafica AnagraficaType

type CessionarioCommittenteType
  DatiAnagrafici DatiAnagraficiCessionarioType
  Sede IndirizzoType
  StabileOrganizzazione IndirizzoType ? since 1.2
  RappresentanteFiscale RappresentanteFiscaleCessionarioType ? since 1.2

type RappresentanteFiscaleCessionarioType
  IdFiscaleIVA IdFiscaleType
  choice
    Denominazione String80LatinType
  or
    Nome String60LatinType
    Cognome String60LatinType
  end

type DatiAnagraficiCessionarioType
  IdFiscaleIVA IdFiscaleType ?
  CodiceFiscale CodiceFiscaleType ?
  Anagrafica AnagraficaType

type TerzoIntermediarioSoggettoEmittenteType
  DatiAnagrafici DatiAnagraficiTerzoIntermediarioType

type DatiAnagraficiTerzoIntermediarioType
  IdFiscaleIVA IdFiscaleType ?
  CodiceFiscale CodiceFiscaleType ?
  Anagrafica AnagraficaType

type DatiBeniServiziType
  DettaglioLinee DettaglioLineeType +
  DatiRiepilogo DatiRiepilogoType +

type DettaglioLineeType
  NumeroLinea NumeroLineaType
  TipoCessionePrestazione TipoCessionePrestazioneType ?
  CodiceArticolo CodiceArticoloType *
  Descrizione String100LatinType until 1.0
  Descrizione String1000LatinType since 1.1
  Quantita QuantitaType ?
  UnitaMisura String10Type ?
  DataInizioPeriodo date ?
  DataFinePeriodo date ?
  PrezzoUnitario Amount8DecimalType
  ScontoMaggiorazione ScontoMaggiorazioneType *
  PrezzoTotale Amount8DecimalType
  AliquotaIVA RateType
  Ritenuta RitenutaType ?
  Natura NaturaType ?
  RiferimentoAmministrazione String20Type ?
  AltriDatiGestionali AltriDatiGestionaliType *

type CodiceArticoloType
  CodiceTipo String35Type
  CodiceValore String35Type until 1.2
  CodiceValore String35LatinExtType since 1.2.1

type AltriDatiGestionaliType
  TipoDato String10Type
  RiferimentoTesto String60LatinType ?
  RiferimentoNumero Amount8DecimalType ?
  RiferimentoData date ?

type DatiRiepilogoType
  AliquotaIVA RateType
  Natura NaturaType ?
  SpeseAccessorie Amount2DecimalType ?
  Arrotondamento Amount8DecimalType ?
  ImponibileImporto Amount2DecimalType
  Imposta Amount2DecimalType
  EsigibilitaIVA EsigibilitaIVAType ?
  RiferimentoNormativo String100LatinType ?

type DatiVeicoliType
  Data date
  TotalePercorso String15Type

type DatiPagamentoType
  CondizioniPagamento CondizioniPagamentoType
  DettaglioPagamento DettaglioPagamentoType +

type DettaglioPagamentoType
  Beneficiario String200LatinType ?
  ModalitaPagamento ModalitaPagamentoType
  DataRiferimentoTerminiPagamento date ?
  GiorniTerminiPagamento GiorniTerminePagamentoType ?
  DataScadenzaPagamento date ?
  ImportoPagamento Amount2DecimalType
  CodUfficioPostale String20Type ?
  CognomeQuietanzante String60LatinType ?
  NomeQuietanzante String60LatinType ?
  CFQuietanzante CodiceFiscalePFType ?
  TitoloQuietanzante TitoloType ?
  IstitutoFinanziario String80LatinType ?
  IBAN IBANType ?
  ABI CAPType ?
  CAB CAPType ?
  BIC BICType ?
  ScontoPagamentoAnticipato Amount2DecimalType ?
  DataLimitePagamentoAnticipato date ?
  PenalitaPagamentiRitardati Amount2DecimalType ?
  DataDecorrenzaPenale date ?
  CodicePagamento String15Type ? until 1.0
  CodicePagamento String60Type ? since 1.1

type AllegatiType
  NomeAttachment String60LatinType
  AlgoritmoCompressione String10Type ?
  FormatoAttachment String10Type ?
  DescrizioneAttachment String100LatinType ?
  Attachment base64Binary
` + ordinaryLists + commonSimpleTypes + signatureTable
