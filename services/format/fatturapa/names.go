package fatturapa

// tag is the number of a known element name; 0 is any other name.
type tag uint16

// The element names of every schema that this package reads, and of XML
// Signature, which a signed invoice carries as its last child.
const (
	tagUnknown tag = iota
	tagFatturaElettronica
	tagFatturaElettronicaSemplificata
	tagFatturaElettronicaHeader
	tagFatturaElettronicaBody
	tagDatiTrasmissione
	tagCedentePrestatore
	tagRappresentanteFiscale
	tagCessionarioCommittente
	tagTerzoIntermediarioOSoggettoEmittente
	tagSoggettoEmittente
	tagDatiGenerali
	tagDatiBeniServizi
	tagDatiVeicoli
	tagDatiPagamento
	tagAllegati
	tagIdTrasmittente
	tagProgressivoInvio
	tagFormatoTrasmissione
	tagCodiceDestinatario
	tagContattiTrasmittente
	tagPECDestinatario
	tagIdPaese
	tagIdCodice
	tagTelefono
	tagEmail
	tagDatiGeneraliDocumento
	tagDatiOrdineAcquisto
	tagDatiContratto
	tagDatiConvenzione
	tagDatiRicezione
	tagDatiFattureCollegate
	tagDatiSAL
	tagDatiDDT
	tagDatiTrasporto
	tagFatturaPrincipale
	tagTipoDocumento
	tagDivisa
	tagData
	tagNumero
	tagDatiRitenuta
	tagDatiBollo
	tagDatiCassaPrevidenziale
	tagScontoMaggiorazione
	tagImportoTotaleDocumento
	tagArrotondamento
	tagCausale
	tagArt73
	tagTipoRitenuta
	tagImportoRitenuta
	tagAliquotaRitenuta
	tagCausalePagamento
	tagBolloVirtuale
	tagImportoBollo
	tagTipoCassa
	tagAlCassa
	tagImportoContributoCassa
	tagImponibileCassa
	tagAliquotaIVA
	tagRitenuta
	tagNatura
	tagRiferimentoAmministrazione
	tagTipo
	tagPercentuale
	tagImporto
	tagRiferimentoFase
	tagRiferimentoNumeroLinea
	tagIdDocumento
	tagNumItem
	tagCodiceCommessaConvenzione
	tagCodiceCUP
	tagCodiceCIG
	tagNumeroDDT
	tagDataDDT
	tagDatiAnagraficiVettore
	tagMezzoTrasporto
	tagCausaleTrasporto
	tagNumeroColli
	tagDescrizione
	tagUnitaMisuraPeso
	tagPesoLordo
	tagPesoNetto
	tagDataOraRitiro
	tagDataInizioTrasporto
	tagTipoResa
	tagIndirizzoResa
	tagDataOraConsegna
	tagIndirizzo
	tagNumeroCivico
	tagCAP
	tagComune
	tagProvincia
	tagNazione
	tagNumeroFatturaPrincipale
	tagDataFatturaPrincipale
	tagDatiAnagrafici
	tagSede
	tagStabileOrganizzazione
	tagIscrizioneREA
	tagContatti
	tagIdFiscaleIVA
	tagCodiceFiscale
	tagAnagrafica
	tagAlboProfessionale
	tagProvinciaAlbo
	tagNumeroIscrizioneAlbo
	tagDataIscrizioneAlbo
	tagRegimeFiscale
	tagDenominazione
	tagNome
	tagCognome
	tagTitolo
	tagCodEORI
	tagNumeroLicenzaGuida
	tagUfficio
	tagNumeroREA
	tagCapitaleSociale
	tagSocioUnico
	tagStatoLiquidazione
	tagFax
	tagDettaglioLinee
	tagDatiRiepilogo
	tagTotalePercorso
	tagCondizioniPagamento
	tagDettaglioPagamento
	tagBeneficiario
	tagModalitaPagamento
	tagDataRiferimentoTerminiPagamento
	tagGiorniTerminiPagamento
	tagDataScadenzaPagamento
	tagImportoPagamento
	tagCodUfficioPostale
	tagCognomeQuietanzante
	tagNomeQuietanzante
	tagCFQuietanzante
	tagTitoloQuietanzante
	tagIstitutoFinanziario
	tagIBAN
	tagABI
	tagCAB
	tagBIC
	tagScontoPagamentoAnticipato
	tagDataLimitePagamentoAnticipato
	tagPenalitaPagamentiRitardati
	tagDataDecorrenzaPenale
	tagCodicePagamento
	tagNomeAttachment
	tagAlgoritmoCompressione
	tagFormatoAttachment
	tagDescrizioneAttachment
	tagAttachment
	tagNumeroLinea
	tagTipoCessionePrestazione
	tagCodiceArticolo
	tagQuantita
	tagUnitaMisura
	tagDataInizioPeriodo
	tagDataFinePeriodo
	tagPrezzoUnitario
	tagPrezzoTotale
	tagAltriDatiGestionali
	tagCodiceTipo
	tagCodiceValore
	tagTipoDato
	tagRiferimentoTesto
	tagRiferimentoNumero
	tagRiferimentoData
	tagSpeseAccessorie
	tagImponibileImporto
	tagImposta
	tagEsigibilitaIVA
	tagRiferimentoNormativo
	tagNormaDiRiferimento
	tagNumeroBollo
	tagDatiFatturaRettificata
	tagNumeroFR
	tagDataFR
	tagElementiRettificati
	tagIdentificativiFiscali
	tagAltriDatiIdentificativi
	tagDatiIVA
	tagAliquota
	tagSignature
	tagSignatureValue
	tagSignedInfo
	tagCanonicalizationMethod
	tagSignatureMethod
	tagHMACOutputLength
	tagReference
	tagTransforms
	tagTransform
	tagXPath
	tagDigestMethod
	tagDigestValue
	tagKeyInfo
	tagKeyName
	tagMgmtData
	tagKeyValue
	tagRetrievalMethod
	tagX509Data
	tagX509IssuerSerial
	tagX509SKI
	tagX509SubjectName
	tagX509Certificate
	tagX509CRL
	tagX509IssuerName
	tagX509SerialNumber
	tagPGPData
	tagPGPKeyID
	tagPGPKeyPacket
	tagSPKIData
	tagSPKISexp
	tagObject
	tagManifest
	tagSignatureProperties
	tagSignatureProperty
	tagDSAKeyValue
	tagP
	tagQ
	tagG
	tagY
	tagJ
	tagSeed
	tagPgenCounter
	tagRSAKeyValue
	tagModulus
	tagExponent
	tagCount
)

// tagNames gives the name of each tag.
var tagNames = [tagCount]string{
	tagFatturaElettronica:                   "FatturaElettronica",
	tagFatturaElettronicaSemplificata:       "FatturaElettronicaSemplificata",
	tagFatturaElettronicaHeader:             "FatturaElettronicaHeader",
	tagFatturaElettronicaBody:               "FatturaElettronicaBody",
	tagDatiTrasmissione:                     "DatiTrasmissione",
	tagCedentePrestatore:                    "CedentePrestatore",
	tagRappresentanteFiscale:                "RappresentanteFiscale",
	tagCessionarioCommittente:               "CessionarioCommittente",
	tagTerzoIntermediarioOSoggettoEmittente: "TerzoIntermediarioOSoggettoEmittente",
	tagSoggettoEmittente:                    "SoggettoEmittente",
	tagDatiGenerali:                         "DatiGenerali",
	tagDatiBeniServizi:                      "DatiBeniServizi",
	tagDatiVeicoli:                          "DatiVeicoli",
	tagDatiPagamento:                        "DatiPagamento",
	tagAllegati:                             "Allegati",
	tagIdTrasmittente:                       "IdTrasmittente",
	tagProgressivoInvio:                     "ProgressivoInvio",
	tagFormatoTrasmissione:                  "FormatoTrasmissione",
	tagCodiceDestinatario:                   "CodiceDestinatario",
	tagContattiTrasmittente:                 "ContattiTrasmittente",
	tagPECDestinatario:                      "PECDestinatario",
	tagIdPaese:                              "IdPaese",
	tagIdCodice:                             "IdCodice",
	tagTelefono:                             "Telefono",
	tagEmail:                                "Email",
	tagDatiGeneraliDocumento:                "DatiGeneraliDocumento",
	tagDatiOrdineAcquisto:                   "DatiOrdineAcquisto",
	tagDatiContratto:                        "DatiContratto",
	tagDatiConvenzione:                      "DatiConvenzione",
	tagDatiRicezione:                        "DatiRicezione",
	tagDatiFattureCollegate:                 "DatiFattureCollegate",
	tagDatiSAL:                              "DatiSAL",
	tagDatiDDT:                              "DatiDDT",
	tagDatiTrasporto:                        "DatiTrasporto",
	tagFatturaPrincipale:                    "FatturaPrincipale",
	tagTipoDocumento:                        "TipoDocumento",
	tagDivisa:                               "Divisa",
	tagData:                                 "Data",
	tagNumero:                               "Numero",
	tagDatiRitenuta:                         "DatiRitenuta",
	tagDatiBollo:                            "DatiBollo",
	tagDatiCassaPrevidenziale:               "DatiCassaPrevidenziale",
	tagScontoMaggiorazione:                  "ScontoMaggiorazione",
	tagImportoTotaleDocumento:               "ImportoTotaleDocumento",
	tagArrotondamento:                       "Arrotondamento",
	tagCausale:                              "Causale",
	tagArt73:                                "Art73",
	tagTipoRitenuta:                         "TipoRitenuta",
	tagImportoRitenuta:                      "ImportoRitenuta",
	tagAliquotaRitenuta:                     "AliquotaRitenuta",
	tagCausalePagamento:                     "CausalePagamento",
	tagBolloVirtuale:                        "BolloVirtuale",
	tagImportoBollo:                         "ImportoBollo",
	tagTipoCassa:                            "TipoCassa",
	tagAlCassa:                              "AlCassa",
	tagImportoContributoCassa:               "ImportoContributoCassa",
	tagImponibileCassa:                      "ImponibileCassa",
	tagAliquotaIVA:                          "AliquotaIVA",
	tagRitenuta:                             "Ritenuta",
	tagNatura:                               "Natura",
	tagRiferimentoAmministrazione:           "RiferimentoAmministrazione",
	tagTipo:                                 "Tipo",
	tagPercentuale:                          "Percentuale",
	tagImporto:                              "Importo",
	tagRiferimentoFase:                      "RiferimentoFase",
	tagRiferimentoNumeroLinea:               "RiferimentoNumeroLinea",
	tagIdDocumento:                          "IdDocumento",
	tagNumItem:                              "NumItem",
	tagCodiceCommessaConvenzione:            "CodiceCommessaConvenzione",
	tagCodiceCUP:                            "CodiceCUP",
	tagCodiceCIG:                            "CodiceCIG",
	tagNumeroDDT:                            "NumeroDDT",
	tagDataDDT:                              "DataDDT",
	tagDatiAnagraficiVettore:                "DatiAnagraficiVettore",
	tagMezzoTrasporto:                       "MezzoTrasporto",
	tagCausaleTrasporto:                     "CausaleTrasporto",
	tagNumeroColli:                          "NumeroColli",
	tagDescrizione:                          "Descrizione",
	tagUnitaMisuraPeso:                      "UnitaMisuraPeso",
	tagPesoLordo:                            "PesoLordo",
	tagPesoNetto:                            "PesoNetto",
	tagDataOraRitiro:                        "DataOraRitiro",
	tagDataInizioTrasporto:                  "DataInizioTrasporto",
	tagTipoResa:                             "TipoResa",
	tagIndirizzoResa:                        "IndirizzoResa",
	tagDataOraConsegna:                      "DataOraConsegna",
	tagIndirizzo:                            "Indirizzo",
	tagNumeroCivico:                         "NumeroCivico",
	tagCAP:                                  "CAP",
	tagComune:                               "Comune",
	tagProvincia:                            "Provincia",
	tagNazione:                              "Nazione",
	tagNumeroFatturaPrincipale:              "NumeroFatturaPrincipale",
	tagDataFatturaPrincipale:                "DataFatturaPrincipale",
	tagDatiAnagrafici:                       "DatiAnagrafici",
	tagSede:                                 "Sede",
	tagStabileOrganizzazione:                "StabileOrganizzazione",
	tagIscrizioneREA:                        "IscrizioneREA",
	tagContatti:                             "Contatti",
	tagIdFiscaleIVA:                         "IdFiscaleIVA",
	tagCodiceFiscale:                        "CodiceFiscale",
	tagAnagrafica:                           "Anagrafica",
	tagAlboProfessionale:                    "AlboProfessionale",
	tagProvinciaAlbo:                        "ProvinciaAlbo",
	tagNumeroIscrizioneAlbo:                 "NumeroIscrizioneAlbo",
	tagDataIscrizioneAlbo:                   "DataIscrizioneAlbo",
	tagRegimeFiscale:                        "RegimeFiscale",
	tagDenominazione:                        "Denominazione",
	tagNome:                                 "Nome",
	tagCognome:                              "Cognome",
	tagTitolo:                               "Titolo",
	tagCodEORI:                              "CodEORI",
	tagNumeroLicenzaGuida:                   "NumeroLicenzaGuida",
	tagUfficio:                              "Ufficio",
	tagNumeroREA:                            "NumeroREA",
	tagCapitaleSociale:                      "CapitaleSociale",
	tagSocioUnico:                           "SocioUnico",
	tagStatoLiquidazione:                    "StatoLiquidazione",
	tagFax:                                  "Fax",
	tagDettaglioLinee:                       "DettaglioLinee",
	tagDatiRiepilogo:                        "DatiRiepilogo",
	tagTotalePercorso:                       "TotalePercorso",
	tagCondizioniPagamento:                  "CondizioniPagamento",
	tagDettaglioPagamento:                   "DettaglioPagamento",
	tagBeneficiario:                         "Beneficiario",
	tagModalitaPagamento:                    "ModalitaPagamento",
	tagDataRiferimentoTerminiPagamento:      "DataRiferimentoTerminiPagamento",
	tagGiorniTerminiPagamento:               "GiorniTerminiPagamento",
	tagDataScadenzaPagamento:                "DataScadenzaPagamento",
	tagImportoPagamento:                     "ImportoPagamento",
	tagCodUfficioPostale:                    "CodUfficioPostale",
	tagCognomeQuietanzante:                  "CognomeQuietanzante",
	tagNomeQuietanzante:                     "NomeQuietanzante",
	tagCFQuietanzante:                       "CFQuietanzante",
	tagTitoloQuietanzante:                   "TitoloQuietanzante",
	tagIstitutoFinanziario:                  "IstitutoFinanziario",
	tagIBAN:                                 "IBAN",
	tagABI:                                  "ABI",
	tagCAB:                                  "CAB",
	tagBIC:                                  "BIC",
	tagScontoPagamentoAnticipato:            "ScontoPagamentoAnticipato",
	tagDataLimitePagamentoAnticipato:        "DataLimitePagamentoAnticipato",
	tagPenalitaPagamentiRitardati:           "PenalitaPagamentiRitardati",
	tagDataDecorrenzaPenale:                 "DataDecorrenzaPenale",
	tagCodicePagamento:                      "CodicePagamento",
	tagNomeAttachment:                       "NomeAttachment",
	tagAlgoritmoCompressione:                "AlgoritmoCompressione",
	tagFormatoAttachment:                    "FormatoAttachment",
	tagDescrizioneAttachment:                "DescrizioneAttachment",
	tagAttachment:                           "Attachment",
	tagNumeroLinea:                          "NumeroLinea",
	tagTipoCessionePrestazione:              "TipoCessionePrestazione",
	tagCodiceArticolo:                       "CodiceArticolo",
	tagQuantita:                             "Quantita",
	tagUnitaMisura:                          "UnitaMisura",
	tagDataInizioPeriodo:                    "DataInizioPeriodo",
	tagDataFinePeriodo:                      "DataFinePeriodo",
	tagPrezzoUnitario:                       "PrezzoUnitario",
	tagPrezzoTotale:                         "PrezzoTotale",
	tagAltriDatiGestionali:                  "AltriDatiGestionali",
	tagCodiceTipo:                           "CodiceTipo",
	tagCodiceValore:                         "CodiceValore",
	tagTipoDato:                             "TipoDato",
	tagRiferimentoTesto:                     "RiferimentoTesto",
	tagRiferimentoNumero:                    "RiferimentoNumero",
	tagRiferimentoData:                      "RiferimentoData",
	tagSpeseAccessorie:                      "SpeseAccessorie",
	tagImponibileImporto:                    "ImponibileImporto",
	tagImposta:                              "Imposta",
	tagEsigibilitaIVA:                       "EsigibilitaIVA",
	tagRiferimentoNormativo:                 "RiferimentoNormativo",
	tagNormaDiRiferimento:                   "NormaDiRiferimento",
	tagNumeroBollo:                          "NumeroBollo",
	tagDatiFatturaRettificata:               "DatiFatturaRettificata",
	tagNumeroFR:                             "NumeroFR",
	tagDataFR:                               "DataFR",
	tagElementiRettificati:                  "ElementiRettificati",
	tagIdentificativiFiscali:                "IdentificativiFiscali",
	tagAltriDatiIdentificativi:              "AltriDatiIdentificativi",
	tagDatiIVA:                              "DatiIVA",
	tagAliquota:                             "Aliquota",
	tagSignature:                            "Signature",
	tagSignatureValue:                       "SignatureValue",
	tagSignedInfo:                           "SignedInfo",
	tagCanonicalizationMethod:               "CanonicalizationMethod",
	tagSignatureMethod:                      "SignatureMethod",
	tagHMACOutputLength:                     "HMACOutputLength",
	tagReference:                            "Reference",
	tagTransforms:                           "Transforms",
	tagTransform:                            "Transform",
	tagXPath:                                "XPath",
	tagDigestMethod:                         "DigestMethod",
	tagDigestValue:                          "DigestValue",
	tagKeyInfo:                              "KeyInfo",
	tagKeyName:                              "KeyName",
	tagMgmtData:                             "MgmtData",
	tagKeyValue:                             "KeyValue",
	tagRetrievalMethod:                      "RetrievalMethod",
	tagX509Data:                             "X509Data",
	tagX509IssuerSerial:                     "X509IssuerSerial",
	tagX509SKI:                              "X509SKI",
	tagX509SubjectName:                      "X509SubjectName",
	tagX509Certificate:                      "X509Certificate",
	tagX509CRL:                              "X509CRL",
	tagX509IssuerName:                       "X509IssuerName",
	tagX509SerialNumber:                     "X509SerialNumber",
	tagPGPData:                              "PGPData",
	tagPGPKeyID:                             "PGPKeyID",
	tagPGPKeyPacket:                         "PGPKeyPacket",
	tagSPKIData:                             "SPKIData",
	tagSPKISexp:                             "SPKISexp",
	tagObject:                               "Object",
	tagManifest:                             "Manifest",
	tagSignatureProperties:                  "SignatureProperties",
	tagSignatureProperty:                    "SignatureProperty",
	tagDSAKeyValue:                          "DSAKeyValue",
	tagP:                                    "P",
	tagQ:                                    "Q",
	tagG:                                    "G",
	tagY:                                    "Y",
	tagJ:                                    "J",
	tagSeed:                                 "Seed",
	tagPgenCounter:                          "PgenCounter",
	tagRSAKeyValue:                          "RSAKeyValue",
	tagModulus:                              "Modulus",
	tagExponent:                             "Exponent",
}

// tagSlots is a closed hash table over tagNames: the names are known when the
// program starts, so a table with few collisions beats a general map.
var tagSlots = buildTagSlots()

const tagSlotCount = 1024

// tagHash mixes the length and the letters in which the names differ most.
func tagHash(s string) uint32 {
	n := len(s)
	return (uint32(n)*0x9E37 ^ uint32(s[0])*0x85EB ^ uint32(s[n-1])*0xC2B2 ^
		uint32(s[n/2])*0x27D4 ^ uint32(s[n/3])*0x1656) & (tagSlotCount - 1)
}

func buildTagSlots() *[tagSlotCount]tag {
	var t [tagSlotCount]tag
	for i := tagUnknown + 1; i < tagCount; i++ {
		h := tagHash(tagNames[i])
		for t[h] != tagUnknown {
			h = (h + 1) & (tagSlotCount - 1)
		}
		t[h] = i
	}
	return &t
}

// lookupTag returns the tag of a name, tagUnknown when the name is none of ours.
func lookupTag(s string) tag {
	if s == "" {
		return tagUnknown
	}
	for h := tagHash(s); ; h = (h + 1) & (tagSlotCount - 1) {
		t := tagSlots[h]
		if t == tagUnknown || tagNames[t] == s {
			return t
		}
	}
}
