package fatturapa

// spec: schemas VFSM10 1.0.0, 1.0.1 and 1.0.2

var simplifiedVersions = []string{"1.0.0", "1.0.1", "1.0.2"}

const simplifiedTable = `
type FatturaElettronicaType
  FatturaElettronicaHeader FatturaElettronicaHeaderType
  FatturaElettronicaBody FatturaElettronicaBodyType +
  ds:Signature ds:SignatureType ?
  attr versione FormatoTrasmissioneType !
  attr SistemaEmittente String10Type since 1.0.1

type FatturaElettronicaHeaderType
  DatiTrasmissione DatiTrasmissioneType
  CedentePrestatore CedentePrestatoreType
  CessionarioCommittente CessionarioCommittenteType
  SoggettoEmittente SoggettoEmittenteType ?

type FatturaElettronicaBodyType
  DatiGenerali DatiGeneraliType
  DatiBeniServizi DatiBeniServiziType +
  Allegati AllegatiType *

type DatiTrasmissioneType
  IdTrasmittente IdFiscaleType
  ProgressivoInvio String10Type
  FormatoTrasmissione FormatoTrasmissioneType
  CodiceDestinatario CodiceDestinatarioType
  PECDestinatario EmailType ?

type IdFiscaleType
  IdPaese NazioneType
  IdCodice CodiceType

type DatiGeneraliType
  DatiGeneraliDocumento DatiGeneraliDocumentoType
  DatiFatturaRettificata DatiFatturaRettificataType ?

type DatiGeneraliDocumentoType
  TipoDocumento TipoDocumentoType
  Divisa DivisaType
  Data DataFatturaType
  Numero String20Type
  BolloVirtuale BolloVirtualeType ? since 1.0.1

type DatiFatturaRettificataType
  NumeroFR String20Type
  DataFR DataFatturaType
  ElementiRettificati String1000LatinType

type IndirizzoType
  Indirizzo String60LatinType
  NumeroCivico NumeroCivicoType ?
  CAP CAPType
  Comune String60LatinType
  Provincia ProvinciaType ?
  Nazione NazioneType default IT

type CedentePrestatoreType
  IdFiscaleIVA IdFiscaleType
  CodiceFiscale CodiceFiscaleType ?
  choice
    Denominazione String80LatinType
  or
    Nome String60LatinType
    Cognome String60LatinType
  end
  Sede IndirizzoType
  StabileOrganizzazione IndirizzoType ?
  RappresentanteFiscale RappresentanteFiscaleType ?
  IscrizioneREA IscrizioneREAType ?
  RegimeFiscale RegimeFiscaleType

type IscrizioneREAType
  Ufficio ProvinciaType
  NumeroREA String20Type
  CapitaleSociale Amount2DecimalType ?
  SocioUnico SocioUnicoType ?
  StatoLiquidazione StatoLiquidazioneType

type RappresentanteFiscaleType
  IdFiscaleIVA IdFiscaleType
  choice
    Denominazione String80LatinType
  or
    Nome String60LatinType
    Cognome String60LatinType
  end

type CessionarioCommittenteType
  IdentificativiFiscali IdentificativiFiscaliType
  AltriDatiIdentificativi AltriDatiIdentificativiType ?

type IdentificativiFiscaliType
  IdFiscaleIVA IdFiscaleType ?
  CodiceFiscale CodiceFiscaleType ?

type AltriDatiIdentificativiType
  choice
    Denominazione String80LatinType
  or
    Nome String60LatinType
    Cognome String60LatinType
  end
  Sede IndirizzoType
  StabileOrganizzazione IndirizzoType ?
  RappresentanteFiscale RappresentanteFiscaleType ?

type DatiBeniServiziType
  Descrizione String1000LatinType
  Importo Amount2DecimalType
  DatiIVA DatiIVAType
  Natura NaturaType ?
  RiferimentoNormativo String100LatinType ?

type DatiIVAType
  Imposta Amount2DecimalType ?
  Aliquota RateType ?

type AllegatiType
  NomeAttachment String60LatinType
  AlgoritmoCompressione String10Type ?
  FormatoAttachment String10Type ?
  DescrizioneAttachment String100LatinType ?
  Attachment base64Binary

enum FormatoTrasmissioneType FSM10
enum SoggettoEmittenteType CC TZ
enum TipoDocumentoType TD07-TD09
enum RegimeFiscaleType RF01 RF02 RF04-RF17 RF18 RF19
  + RF20 since 1.0.2
enum NaturaType N1 N2 N3 N4 N5
  + N2.1 N2.2 N3.1-N3.6 since 1.0.1
enum SocioUnicoType SU SM
enum StatoLiquidazioneType LS LN
enum BolloVirtualeType SI

simple CodiceDestinatarioType chars upnum 7 7
simple EmailType emailloose 7 256 until 1.0.0
simple EmailType emailstrict collapse 256 since 1.0.1
` + commonSimpleTypes + signatureTable
