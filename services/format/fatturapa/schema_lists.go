package fatturapa

// The closed lists and the simple types of the schemas.
//
// spec: schemas, simpleType declarations; AllA-1.9 App.2 (code lists)

const ordinaryLists = `
enum VersioneType
  + 1.0 until 1.0
  + 1.1 since 1.1 until 1.1
  + FPA12 FPR12 since 1.2
enum FormatoTrasmissioneType
  + SDI10 until 1.0
  + SDI11 since 1.1 until 1.1
  + FPA12 FPR12 since 1.2
enum SoggettoEmittenteType CC TZ
enum TipoDocumentoType TD01-TD06
  + TD16-TD27 since 1.2.1
  + TD28 since 1.2.2
  + TD29 since 1.2.3
enum RegimeFiscaleType RF01 RF02 RF04-RF17 RF18
  + RF03 until 1.1
  + RF19 since 1.1
  + RF20 since 1.2.3
enum CausalePagamentoType A B C D E G H I L M N O P Q R S T U V W X Y
  + F until 1.0
  + Z until 1.2
  + Z since 1.2.2
  + L1 M1 O1 V1 since 1.1
  + M2 ZO since 1.2.1
enum TipoScontoMaggiorazioneType SC MG
enum Art73Type SI
enum TipoCassaType TC01-TC22
enum TipoRitenutaType RT01 RT02
  + RT03-RT06 since 1.2.1
enum CondizioniPagamentoType TP01-TP03
enum ModalitaPagamentoType MP01-MP17
  + MP18-MP21 since 1.1
  + MP22 since 1.2
  + MP23 since 1.2.1
enum RitenutaType SI
enum EsigibilitaIVAType D I
  + S since 1.1
enum NaturaType N1 N2 N3 N4 N5
  + N6 since 1.1
  + N7 since 1.2
  + N2.1 N2.2 N3.1-N3.6 N6.1-N6.9 since 1.2.1
enum TipoCessionePrestazioneType SC PR AB AC
enum SocioUnicoType SU SM
enum StatoLiquidazioneType LS LN
enum BolloVirtualeType SI

simple CodiceDestinatarioType chars upnum 6 6 until 1.1
simple CodiceDestinatarioType chars upnum 6 7 since 1.2
simple EmailType emailloose 7 256 until 1.2
simple EmailType emailstrict replace 256 since 1.2.1 until 1.2.1
simple EmailType emailstrict collapse 256 since 1.2.2
simple EmailContattiType emailloose 7 256
simple IBANType iban 23 30 until 1.1
simple IBANType iban 11 30 since 1.2
simple QuantitaType decimal unsigned 18 2 2 until 1.0
simple QuantitaType decimal unsigned 12 2 8 since 1.1
`

const commonSimpleTypes = `
simple CodiceType chars any 1 28
simple CodEORIType chars any 13 17
simple CodiceFiscaleType chars upnum 11 16
simple CodiceFiscalePFType chars upnum 16 16
simple ProvinciaType chars upper 2 2
simple NazioneType chars upper 2 2
simple DivisaType chars upper 3 3
simple TipoResaType chars upper 3 3
simple CAPType chars digit 5 5
simple NumeroCivicoType chars basic 1 8
simple TelFaxType chars basic 5 12
simple NumeroBolloType chars basic 14 14
simple TitoloType token basic 2 10
simple String10Type chars basic 1 10
simple String15Type chars basic 1 15
simple String20Type chars basic 1 20
simple String35Type chars basic 1 35
simple String35LatinExtType chars any 1 35
simple String60Type chars basic 1 60
simple String60LatinType chars latin 1 60
simple String80LatinType chars latin 1 80
simple String100LatinType chars latin 1 100
simple String200LatinType chars latin 1 200
simple String1000LatinType chars latin 1 1000
simple BICType bic
simple PesoType decimal unsigned 4 1 2
simple Amount2DecimalType decimal signed 11 2 2
simple Amount8DecimalType decimal signed 11 2 8
simple RateType decimal unsigned 3 2 2 max100
simple NumeroLineaType integer 1 9999
simple NumeroColliType integer 1 9999
simple RiferimentoFaseType integer 1 999
simple GiorniTerminePagamentoType integer 0 999
simple date date
simple DataFatturaType date from1970
simple dateTime datetime
simple base64Binary base64
simple integer integer any
simple string chars any 0 -1
simple anyURI chars any 0 -1
simple ID id
`

// signatureTable is XML Signature: a signed invoice carries it as its last
// child, and the schema imports it. What XAdES puts into ds:Object is not
// declared in any schema that is at hand, so "lax" leaves it unchecked.
//
// spec: REC-xmldsig-core-20020212
const signatureTable = `
type ds:SignatureType
  ds:SignedInfo ds:SignedInfoType
  ds:SignatureValue ds:SignatureValueType
  ds:KeyInfo ds:KeyInfoType ?
  ds:Object ds:ObjectType *
  attr Id ID
type ds:SignatureValueType content base64Binary
  attr Id ID
type ds:SignedInfoType
  ds:CanonicalizationMethod ds:CanonicalizationMethodType
  ds:SignatureMethod ds:SignatureMethodType
  ds:Reference ds:ReferenceType +
  attr Id ID
type ds:CanonicalizationMethodType mixed
  any any strict *
  attr Algorithm anyURI !
type ds:SignatureMethodType mixed
  ds:HMACOutputLength integer ?
  any other strict *
  attr Algorithm anyURI !
type ds:ReferenceType
  ds:Transforms ds:TransformsType ?
  ds:DigestMethod ds:DigestMethodType
  ds:DigestValue base64Binary
  attr Id ID
  attr URI anyURI
  attr Type anyURI
type ds:TransformsType
  ds:Transform ds:TransformType +
type ds:TransformType mixed
  choice*
    any other lax
  or
    ds:XPath string
  end
  attr Algorithm anyURI !
type ds:DigestMethodType mixed
  any other lax *
  attr Algorithm anyURI !
type ds:KeyInfoType mixed
  choice+
    ds:KeyName string
  or
    ds:KeyValue ds:KeyValueType
  or
    ds:RetrievalMethod ds:RetrievalMethodType
  or
    ds:X509Data ds:X509DataType
  or
    ds:PGPData ds:PGPDataType
  or
    ds:SPKIData ds:SPKIDataType
  or
    ds:MgmtData string
  or
    any other lax
  end
  attr Id ID
type ds:KeyValueType mixed
  choice
    ds:DSAKeyValue ds:DSAKeyValueType
  or
    ds:RSAKeyValue ds:RSAKeyValueType
  or
    any other lax
  end
type ds:RetrievalMethodType
  ds:Transforms ds:TransformsType ?
  attr URI anyURI
  attr Type anyURI
type ds:X509DataType
  choice+
    ds:X509IssuerSerial ds:X509IssuerSerialType
  or
    ds:X509SKI base64Binary
  or
    ds:X509SubjectName string
  or
    ds:X509Certificate base64Binary
  or
    ds:X509CRL base64Binary
  or
    any other lax
  end
type ds:X509IssuerSerialType
  ds:X509IssuerName string
  ds:X509SerialNumber integer
type ds:PGPDataType
  choice
    ds:PGPKeyID base64Binary
    ds:PGPKeyPacket base64Binary ?
    any other lax *
  or
    ds:PGPKeyPacket base64Binary
    any other lax *
  end
type ds:SPKIDataType
  choice+
    ds:SPKISexp base64Binary
    any other lax ?
  end
type ds:ObjectType mixed
  any any lax *
  attr Id ID
  attr MimeType string
  attr Encoding anyURI
type ds:ManifestType
  ds:Reference ds:ReferenceType +
  attr Id ID
type ds:SignaturePropertiesType
  ds:SignatureProperty ds:SignaturePropertyType +
  attr Id ID
type ds:SignaturePropertyType mixed
  choice+
    any other lax
  end
  attr Target anyURI !
  attr Id ID
type ds:DSAKeyValueType
  choice?
    ds:P base64Binary
    ds:Q base64Binary
  end
  ds:G base64Binary ?
  ds:Y base64Binary
  ds:J base64Binary ?
  choice?
    ds:Seed base64Binary
    ds:PgenCounter base64Binary
  end
type ds:RSAKeyValueType
  ds:Modulus base64Binary
  ds:Exponent base64Binary
global ds:Signature ds:SignatureType
global ds:SignatureValue ds:SignatureValueType
global ds:SignedInfo ds:SignedInfoType
global ds:CanonicalizationMethod ds:CanonicalizationMethodType
global ds:SignatureMethod ds:SignatureMethodType
global ds:Reference ds:ReferenceType
global ds:Transforms ds:TransformsType
global ds:Transform ds:TransformType
global ds:DigestMethod ds:DigestMethodType
global ds:DigestValue base64Binary
global ds:KeyInfo ds:KeyInfoType
global ds:KeyName string
global ds:MgmtData string
global ds:KeyValue ds:KeyValueType
global ds:RetrievalMethod ds:RetrievalMethodType
global ds:X509Data ds:X509DataType
global ds:PGPData ds:PGPDataType
global ds:SPKIData ds:SPKIDataType
global ds:Object ds:ObjectType
global ds:Manifest ds:ManifestType
global ds:SignatureProperties ds:SignaturePropertiesType
global ds:SignatureProperty ds:SignaturePropertyType
global ds:DSAKeyValue ds:DSAKeyValueType
global ds:RSAKeyValue ds:RSAKeyValueType
`
