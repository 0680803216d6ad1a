package render

// element is what the page knows of a name: its words, and how its value is shown.
type element struct {
	label words
	kind  kind
	list  codeList
}

func labelOf(name string) words { return elements[name].label }

// elements are all names of the ordinary, simplified and archive formats that a
// page can meet. The words are our own: shorter than the official ones.
var elements = map[string]element{
	"versione":             {label: words{"Formato", "Format"}},
	"SistemaEmittente":     {label: words{"Sistema emittente", "Issuing system"}},
	"DatiTrasmissione":     {label: words{"Trasmissione", "Transmission"}},
	"IdTrasmittente":       {label: words{"Trasmittente", "Sender"}, kind: kindID},
	"IdPaese":              {label: words{"Paese", "Country"}},
	"IdCodice":             {label: words{"Codice", "Code"}},
	"ProgressivoInvio":     {label: words{"Progressivo di invio", "Transmission number"}},
	"FormatoTrasmissione":  {label: words{"Formato di trasmissione", "Transmission format"}, list: listFormato},
	"CodiceDestinatario":   {label: words{"Codice destinatario", "Recipient code"}},
	"ContattiTrasmittente": {label: words{"Contatti del trasmittente", "Contact of the sender"}},
	"PECDestinatario":      {label: words{"PEC del destinatario", "Certified e-mail of the recipient"}},
	"Telefono":             {label: words{"Telefono", "Telephone"}},
	"Fax":                  {label: words{"Fax", "Fax"}},
	"Email":                {label: words{"E-mail", "E-mail"}},

	"CedentePrestatore":                    {label: words{"Cedente o prestatore", "Seller"}},
	"CessionarioCommittente":               {label: words{"Cessionario o committente", "Buyer"}},
	"RappresentanteFiscale":                {label: words{"Rappresentante fiscale", "Tax representative"}},
	"TerzoIntermediarioOSoggettoEmittente": {label: words{"Terzo intermediario o soggetto emittente", "Third party issuing the invoice"}},
	"SoggettoEmittente":                    {label: words{"Emessa da", "Issued by"}, list: listSoggettoEmittente},
	"DatiAnagrafici":                       {label: words{"Dati anagrafici", "Identity"}, kind: kindGroup},
	"IdentificativiFiscali":                {label: words{"Identificativi fiscali", "Tax identifiers"}, kind: kindGroup},
	"AltriDatiIdentificativi":              {label: words{"Altri dati identificativi", "Further identity"}, kind: kindGroup},
	"Anagrafica":                           {label: words{"Anagrafica", "Name"}, kind: kindGroup},
	"IdFiscaleIVA":                         {label: words{"Partita IVA", "VAT number"}, kind: kindID},
	"CodiceFiscale":                        {label: words{"Codice fiscale", "Tax code"}},
	"Denominazione":                        {label: words{"Denominazione", "Company name"}},
	"Nome":                                 {label: words{"Nome", "First name"}},
	"Cognome":                              {label: words{"Cognome", "Last name"}},
	"Titolo":                               {label: words{"Titolo", "Title"}},
	"CodEORI":                              {label: words{"Codice EORI", "EORI number"}},
	"AlboProfessionale":                    {label: words{"Albo professionale", "Professional register"}},
	"ProvinciaAlbo":                        {label: words{"Provincia dell'albo", "Province of the register"}},
	"NumeroIscrizioneAlbo":                 {label: words{"Numero di iscrizione all'albo", "Number in the register"}},
	"DataIscrizioneAlbo":                   {label: words{"Iscritto all'albo dal", "In the register since"}, kind: kindDate},
	"RegimeFiscale":                        {label: words{"Regime fiscale", "Tax regime"}, list: listRegimeFiscale},
	"NumeroLicenzaGuida":                   {label: words{"Licenza di guida", "Driving licence"}},
	"Sede":                                 {label: words{"Sede", "Address"}, kind: kindAddress},
	"StabileOrganizzazione":                {label: words{"Stabile organizzazione", "Permanent establishment"}, kind: kindAddress},
	"Indirizzo":                            {label: words{"Indirizzo", "Street"}},
	"NumeroCivico":                         {label: words{"Numero civico", "House number"}},
	"CAP":                                  {label: words{"CAP", "Postcode"}},
	"Comune":                               {label: words{"Comune", "Town"}},
	"Provincia":                            {label: words{"Provincia", "Province"}},
	"Nazione":                              {label: words{"Nazione", "Country"}},
	"IscrizioneREA":                        {label: words{"Registro delle imprese", "Business register"}},
	"Ufficio":                              {label: words{"Ufficio", "Office"}},
	"NumeroREA":                            {label: words{"Numero REA", "REA number"}},
	"CapitaleSociale":                      {label: words{"Capitale sociale", "Share capital"}, kind: kindMoney},
	"SocioUnico":                           {label: words{"Soci", "Shareholders"}, list: listSocioUnico},
	"StatoLiquidazione":                    {label: words{"Liquidazione", "Liquidation"}, list: listStatoLiquidazione},
	"Contatti":                             {label: words{"Contatti", "Contact"}, kind: kindGroup},
	"RiferimentoAmministrazione":           {label: words{"Riferimento amministrativo", "Administrative reference"}},

	"DatiGenerali":           {label: words{"Dati generali", "General data"}},
	"DatiGeneraliDocumento":  {label: words{"Documento", "Document"}},
	"TipoDocumento":          {label: words{"Tipo di documento", "Document type"}, list: listTipoDocumento},
	"Divisa":                 {label: words{"Valuta", "Currency"}},
	"Data":                   {label: words{"Data", "Date"}, kind: kindDate},
	"Numero":                 {label: words{"Numero", "Number"}},
	"DatiRitenuta":           {label: words{"Ritenuta", "Withholding"}},
	"TipoRitenuta":           {label: words{"Tipo di ritenuta", "Kind of withholding"}, list: listTipoRitenuta},
	"ImportoRitenuta":        {label: words{"Importo della ritenuta", "Amount withheld"}, kind: kindMoney},
	"AliquotaRitenuta":       {label: words{"Aliquota della ritenuta", "Rate of withholding"}, kind: kindRate},
	"CausalePagamento":       {label: words{"Causale del pagamento", "Reason for payment"}, list: listCausalePagamento},
	"DatiBollo":              {label: words{"Bollo", "Stamp duty"}},
	"BolloVirtuale":          {label: words{"Bollo assolto in modo virtuale", "Stamp duty paid virtually"}, list: listYes},
	"NumeroBollo":            {label: words{"Numero del bollo", "Stamp number"}},
	"ImportoBollo":           {label: words{"Importo del bollo", "Amount of stamp duty"}, kind: kindMoney},
	"DatiCassaPrevidenziale": {label: words{"Cassa previdenziale", "Pension fund"}},
	"TipoCassa":              {label: words{"Cassa", "Fund"}, list: listTipoCassa},
	"AlCassa":                {label: words{"Aliquota del contributo", "Rate of contribution"}, kind: kindRate},
	"ImportoContributoCassa": {label: words{"Contributo", "Contribution"}, kind: kindMoney},
	"ImponibileCassa":        {label: words{"Imponibile del contributo", "Base of contribution"}, kind: kindMoney},
	"AliquotaIVA":            {label: words{"Aliquota IVA", "VAT rate"}, kind: kindRate},
	"Ritenuta":               {label: words{"Soggetto a ritenuta", "Subject to withholding"}, list: listYes},
	"Natura":                 {label: words{"Natura", "Nature"}, list: listNatura},
	"ScontoMaggiorazione":    {label: words{"Sconto o maggiorazione", "Discount or surcharge"}, kind: kindChange},
	"Tipo":                   {label: words{"Tipo", "Kind"}, list: listScontoMaggiorazione},
	"Percentuale":            {label: words{"Percentuale", "Per cent"}, kind: kindRate},
	"Importo":                {label: words{"Importo", "Amount"}, kind: kindMoney},
	"ImportoTotaleDocumento": {label: words{"Totale del documento", "Document total"}, kind: kindMoney},
	"Arrotondamento":         {label: words{"Arrotondamento", "Rounding"}, kind: kindMoney},
	"Causale":                {label: words{"Causale", "Reason"}},
	"Art73":                  {label: words{"Emesso secondo l'art. 73 DPR 633/72", "Issued under art. 73 DPR 633/72"}, list: listYes},

	"DatiOrdineAcquisto":        {label: words{"Ordine di acquisto", "Purchase order"}},
	"DatiContratto":             {label: words{"Contratto", "Contract"}},
	"DatiConvenzione":           {label: words{"Convenzione", "Agreement"}},
	"DatiRicezione":             {label: words{"Ricezione", "Receipt"}},
	"DatiFattureCollegate":      {label: words{"Fattura collegata", "Linked invoice"}},
	"RiferimentoNumeroLinea":    {label: words{"Linee", "Lines"}},
	"IdDocumento":               {label: words{"Documento", "Document"}},
	"NumItem":                   {label: words{"Voce", "Item"}},
	"CodiceCommessaConvenzione": {label: words{"Commessa o convenzione", "Job or agreement code"}},
	"CodiceCUP":                 {label: words{"CUP", "CUP"}},
	"CodiceCIG":                 {label: words{"CIG", "CIG"}},
	"DatiSAL":                   {label: words{"Stato di avanzamento", "Stage of works"}},
	"RiferimentoFase":           {label: words{"Fase", "Stage"}},
	"DatiDDT":                   {label: words{"Documento di trasporto", "Transport document"}},
	"NumeroDDT":                 {label: words{"Numero DDT", "Transport document no."}},
	"DataDDT":                   {label: words{"Data DDT", "Transport document date"}, kind: kindDate},
	"DatiTrasporto":             {label: words{"Trasporto", "Transport"}},
	"DatiAnagraficiVettore":     {label: words{"Vettore", "Carrier"}},
	"MezzoTrasporto":            {label: words{"Mezzo", "Vehicle"}},
	"CausaleTrasporto":          {label: words{"Causale del trasporto", "Reason for transport"}},
	"NumeroColli":               {label: words{"Colli", "Packages"}},
	"Descrizione":               {label: words{"Descrizione", "Description"}},
	"UnitaMisuraPeso":           {label: words{"Unità di misura del peso", "Unit of weight"}},
	"PesoLordo":                 {label: words{"Peso lordo", "Gross weight"}, kind: kindQuantity},
	"PesoNetto":                 {label: words{"Peso netto", "Net weight"}, kind: kindQuantity},
	"DataOraRitiro":             {label: words{"Ritiro", "Collected"}, kind: kindTime},
	"DataInizioTrasporto":       {label: words{"Inizio del trasporto", "Transport begins"}, kind: kindDate},
	"TipoResa":                  {label: words{"Resa (Incoterms)", "Delivery terms (Incoterms)"}},
	"IndirizzoResa":             {label: words{"Luogo di resa", "Place of delivery"}, kind: kindAddress},
	"DataOraConsegna":           {label: words{"Consegna", "Delivered"}, kind: kindTime},
	"NormaDiRiferimento":        {label: words{"Norma di riferimento", "Legal basis"}},
	"FatturaPrincipale":         {label: words{"Fattura principale", "Main invoice"}},
	"NumeroFatturaPrincipale":   {label: words{"Numero della fattura principale", "Main invoice no."}},
	"DataFatturaPrincipale":     {label: words{"Data della fattura principale", "Main invoice date"}, kind: kindDate},
	"DatiFatturaRettificata":    {label: words{"Fattura rettificata", "Corrected invoice"}},
	"NumeroFR":                  {label: words{"Numero", "Number"}},
	"DataFR":                    {label: words{"Data", "Date"}, kind: kindDate},
	"ElementiRettificati":       {label: words{"Elementi rettificati", "What is corrected"}},

	"DatiBeniServizi":         {label: words{"Beni e servizi", "Goods and services"}},
	"DettaglioLinee":          {label: words{"Linee di dettaglio", "Lines"}},
	"NumeroLinea":             {label: words{"Numero", "Number"}},
	"TipoCessionePrestazione": {label: words{"Tipo di cessione", "Kind of supply"}, list: listTipoCessione},
	"CodiceArticolo":          {label: words{"Articolo", "Article"}, kind: kindID},
	"CodiceTipo":              {label: words{"Tipo di codice", "Kind of code"}},
	"CodiceValore":            {label: words{"Valore", "Value"}},
	"Quantita":                {label: words{"Quantità", "Quantity"}, kind: kindQuantity},
	"UnitaMisura":             {label: words{"Unità di misura", "Unit"}},
	"DataInizioPeriodo":       {label: words{"Periodo dal", "Period from"}, kind: kindDate},
	"DataFinePeriodo":         {label: words{"Periodo al", "Period to"}, kind: kindDate},
	"PrezzoUnitario":          {label: words{"Prezzo unitario", "Unit price"}, kind: kindMoney},
	"PrezzoTotale":            {label: words{"Prezzo totale", "Total price"}, kind: kindMoney},
	"AltriDatiGestionali":     {label: words{"Altri dati", "Other data"}},
	"TipoDato":                {label: words{"Tipo", "Kind"}},
	"RiferimentoTesto":        {label: words{"Testo", "Text"}},
	"RiferimentoNumero":       {label: words{"Numero", "Number"}, kind: kindQuantity},
	"RiferimentoData":         {label: words{"Data", "Date"}, kind: kindDate},
	"DatiRiepilogo":           {label: words{"Riepilogo IVA", "VAT summary"}},
	"SpeseAccessorie":         {label: words{"Spese accessorie", "Accessory costs"}, kind: kindMoney},
	"ImponibileImporto":       {label: words{"Imponibile", "Taxable amount"}, kind: kindMoney},
	"Imposta":                 {label: words{"Imposta", "Tax"}, kind: kindMoney},
	"EsigibilitaIVA":          {label: words{"Esigibilità", "Chargeability"}, list: listEsigibilita},
	"RiferimentoNormativo":    {label: words{"Riferimento normativo", "Legal reference"}},
	"DatiIVA":                 {label: words{"IVA", "VAT"}, kind: kindGroup},
	"Aliquota":                {label: words{"Aliquota", "Rate"}, kind: kindRate},
	"DatiVeicoli":             {label: words{"Veicolo", "Vehicle"}},
	"TotalePercorso":          {label: words{"Percorso totale", "Total distance"}},

	"DatiPagamento":                   {label: words{"Pagamento", "Payment"}},
	"CondizioniPagamento":             {label: words{"Condizioni", "Terms"}, list: listCondizioniPagamento},
	"DettaglioPagamento":              {label: words{"Modalità e scadenza", "Method and due date"}},
	"Beneficiario":                    {label: words{"Beneficiario", "Payee"}},
	"ModalitaPagamento":               {label: words{"Modalità", "Method"}, list: listModalitaPagamento},
	"DataRiferimentoTerminiPagamento": {label: words{"Termini decorrenti dal", "Terms count from"}, kind: kindDate},
	"GiorniTerminiPagamento":          {label: words{"Giorni", "Days"}},
	"DataScadenzaPagamento":           {label: words{"Scadenza", "Due date"}, kind: kindDate},
	"ImportoPagamento":                {label: words{"Importo", "Amount"}, kind: kindMoney},
	"CodUfficioPostale":               {label: words{"Ufficio postale", "Post office"}},
	"CognomeQuietanzante":             {label: words{"Cognome del quietanzante", "Last name of who gives receipt"}},
	"NomeQuietanzante":                {label: words{"Nome del quietanzante", "First name of who gives receipt"}},
	"CFQuietanzante":                  {label: words{"Codice fiscale del quietanzante", "Tax code of who gives receipt"}},
	"TitoloQuietanzante":              {label: words{"Titolo del quietanzante", "Title of who gives receipt"}},
	"IstitutoFinanziario":             {label: words{"Banca", "Bank"}},
	"IBAN":                            {label: words{"IBAN", "IBAN"}},
	"ABI":                             {label: words{"ABI", "ABI"}},
	"CAB":                             {label: words{"CAB", "CAB"}},
	"BIC":                             {label: words{"BIC", "BIC"}},
	"ScontoPagamentoAnticipato":       {label: words{"Sconto per pagamento anticipato", "Discount for early payment"}, kind: kindMoney},
	"DataLimitePagamentoAnticipato":   {label: words{"Limite per il pagamento anticipato", "Early payment until"}, kind: kindDate},
	"PenalitaPagamentiRitardati":      {label: words{"Penalità per ritardo", "Penalty for late payment"}, kind: kindMoney},
	"DataDecorrenzaPenale":            {label: words{"Penalità dal", "Penalty from"}, kind: kindDate},
	"CodicePagamento":                 {label: words{"Codice di pagamento", "Payment code"}},

	"Allegati":              {label: words{"Allegati", "Attachments"}},
	"NomeAttachment":        {label: words{"Nome", "Name"}},
	"AlgoritmoCompressione": {label: words{"Compressione", "Compression"}},
	"FormatoAttachment":     {label: words{"Formato", "Format"}},
	"DescrizioneAttachment": {label: words{"Descrizione", "Description"}},
	"Attachment":            {label: words{"Contenuto", "Content"}},
}

// The words of the page that are no element.
var (
	wordInvoice       = words{"Fattura elettronica", "Electronic invoice"}
	wordDocument      = words{"Documento", "Document"}
	wordNumber        = words{"n.", "no."}
	wordOf            = words{"del", "of"}
	wordLot           = words{"Lotto di fatture", "Lot of invoices"}
	wordDocuments     = words{"documenti", "documents"}
	wordSkip          = words{"Vai al contenuto", "Skip to content"}
	wordKind          = words{"Riferimento", "Reference"}
	wordRelated       = words{"Documenti di riferimento", "Related documents"}
	wordRegistered    = words{"Prima immatricolazione", "First registration"}
	wordSum           = words{"Somma, calcolata per questa vista", "Sum, computed for this view"}
	wordFileName      = words{"Nome del file", "File name"}
	wordDownload      = words{"Scarica", "Download"}
	wordNotBase64     = words{"Il contenuto non è Base64 e non si può scaricare", "The content is not Base64 and cannot be downloaded"}
	wordEmptyFile     = words{"L'allegato è vuoto", "The attachment is empty"}
	wordRenamed       = words{"nome cambiato: il tipo di file potrebbe eseguire comandi", "renamed: this type of file might run commands"}
	wordCourtesy      = words{"Copia di cortesia", "Courtesy copy"}
	wordCourtesyMeans = words{"Non ha valore fiscale: la fattura è il file XML trasmesso attraverso il Sistema di Interscambio.",
		"Of no fiscal value: the invoice is the XML file sent through the Sistema di Interscambio."}
	wordPage     = words{"Pagina %d di %d", "Page %d of %d"}
	wordEmbedded = words{"allegato a questo PDF", "attached to this PDF"}
	wordLost     = words{"Il segno \ufffd sta per i caratteri che questo PDF non può mostrare.", "The sign \ufffd stands for characters that this PDF cannot show."}
	wordView     = words{"Questo documento mostra il contenuto del file XML, che è il solo a fare fede.",
		"This document shows the content of the XML file, which alone is authoritative."}
	wordSigned = words{"Il file contiene una firma XML, che questo documento non verifica.",
		"The file holds an XML signature, which this document does not verify."}
)
