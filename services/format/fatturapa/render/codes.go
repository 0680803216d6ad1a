package render

// codeList names a closed list of codes.
type codeList uint8

const (
	noList codeList = iota
	listFormato
	listTipoDocumento
	listRegimeFiscale
	listNatura
	listModalitaPagamento
	listCondizioniPagamento
	listEsigibilita
	listTipoCassa
	listTipoRitenuta
	listCausalePagamento
	listSoggettoEmittente
	listTipoCessione
	listScontoMaggiorazione
	listStatoLiquidazione
	listSocioUnico
	listYes
)

// bare reports whether the code says no more than its meaning does.
func (l codeList) bare() bool { return l == listYes || l == listScontoMaggiorazione }

var formatTitles = map[string]words{
	"FPA12": {"Fattura elettronica verso la pubblica amministrazione", "Electronic invoice to a public body"},
	"FPR12": {"Fattura elettronica verso privati", "Electronic invoice to a private party"},
	"FSM10": {"Fattura elettronica semplificata", "Simplified electronic invoice"},
	"SDI10": {"Fattura elettronica verso la pubblica amministrazione, formato 1.0", "Electronic invoice to a public body, format 1.0"},
	"SDI11": {"Fattura elettronica verso la pubblica amministrazione, formato 1.1", "Electronic invoice to a public body, format 1.1"},
}

// codeLists say in our words what each code means; a code that is not here is
// shown as it stands.
//
// spec: AllA-1.9, code lists
var codeLists = map[codeList]map[string]words{
	listFormato: {
		"FPA12": {"verso la pubblica amministrazione", "to a public body"},
		"FPR12": {"verso privati", "to a private party"},
		"FSM10": {"semplificata, verso privati", "simplified, to a private party"},
		"SDI10": {"verso la pubblica amministrazione, formato 1.0", "to a public body, format 1.0"},
		"SDI11": {"verso la pubblica amministrazione, formato 1.1", "to a public body, format 1.1"},
	},
	listTipoDocumento: {
		"TD01": {"Fattura", "Invoice"},
		"TD02": {"Acconto su fattura", "Advance on an invoice"},
		"TD03": {"Acconto su parcella", "Advance on a fee note"},
		"TD04": {"Nota di credito", "Credit note"},
		"TD05": {"Nota di debito", "Debit note"},
		"TD06": {"Parcella", "Fee note"},
		"TD07": {"Fattura semplificata", "Simplified invoice"},
		"TD08": {"Nota di credito semplificata", "Simplified credit note"},
		"TD09": {"Nota di debito semplificata", "Simplified debit note"},
		"TD16": {"Integrazione per inversione contabile interna", "Self-billing for domestic reverse charge"},
		"TD17": {"Integrazione o autofattura per servizi dall'estero", "Self-billing for services from abroad"},
		"TD18": {"Integrazione per beni intracomunitari", "Self-billing for goods from the EU"},
		"TD19": {"Integrazione o autofattura per beni ex art. 17, c. 2", "Self-billing for goods under art. 17(2)"},
		"TD20": {"Autofattura per regolarizzazione", "Self-billing to regularise"},
		"TD21": {"Autofattura per splafonamento", "Self-billing for exceeding the plafond"},
		"TD22": {"Estrazione da deposito IVA", "Withdrawal from a VAT warehouse"},
		"TD23": {"Estrazione da deposito IVA con versamento", "Withdrawal from a VAT warehouse with payment"},
		"TD24": {"Fattura differita (lettera a)", "Deferred invoice (letter a)"},
		"TD25": {"Fattura differita (lettera b)", "Deferred invoice (letter b)"},
		"TD26": {"Cessione di beni ammortizzabili o passaggio interno", "Sale of depreciable assets or internal transfer"},
		"TD27": {"Autoconsumo o cessione gratuita", "Own use or supply free of charge"},
		"TD28": {"Acquisti da San Marino con IVA", "Purchases from San Marino with VAT"},
		"TD29": {"Comunicazione di fattura omessa o irregolare", "Notice of a missing or irregular invoice"},
	},
	listRegimeFiscale: {
		"RF01": {"ordinario", "ordinary"},
		"RF02": {"contribuenti minimi", "minimum taxpayers"},
		"RF04": {"agricoltura e pesca", "farming and fishing"},
		"RF05": {"sali e tabacchi", "salt and tobacco"},
		"RF06": {"fiammiferi", "matches"},
		"RF07": {"editoria", "publishing"},
		"RF08": {"telefonia pubblica", "public telephones"},
		"RF09": {"documenti di trasporto pubblico e di sosta", "public transport and parking tickets"},
		"RF10": {"intrattenimenti e giochi", "entertainment and games"},
		"RF11": {"agenzie di viaggi e turismo", "travel agencies"},
		"RF12": {"agriturismo", "farm holidays"},
		"RF13": {"vendite a domicilio", "door-to-door sales"},
		"RF14": {"beni usati, arte, antiquariato, collezione", "second-hand goods, art, antiques, collectables"},
		"RF15": {"vendite all'asta di arte e antiquariato", "auctions of art and antiques"},
		"RF16": {"IVA per cassa, pubblica amministrazione", "cash accounting, public bodies"},
		"RF17": {"IVA per cassa", "cash accounting"},
		"RF18": {"altro", "other"},
		"RF19": {"forfettario", "flat rate"},
		"RF20": {"franchigia IVA transfrontaliera", "cross-border VAT exemption"},
	},
	listNatura: {
		"N1":   {"escluse ex art. 15", "excluded under art. 15"},
		"N2":   {"non soggette", "outside the scope of VAT"},
		"N2.1": {"non soggette, artt. 7-7-septies", "outside the scope, arts. 7-7-septies"},
		"N2.2": {"non soggette, altri casi", "outside the scope, other cases"},
		"N3":   {"non imponibili", "zero rated"},
		"N3.1": {"non imponibili, esportazioni", "zero rated, exports"},
		"N3.2": {"non imponibili, cessioni intracomunitarie", "zero rated, supplies within the EU"},
		"N3.3": {"non imponibili, verso San Marino", "zero rated, to San Marino"},
		"N3.4": {"non imponibili, assimilate alle esportazioni", "zero rated, treated as exports"},
		"N3.5": {"non imponibili, dichiarazioni d'intento", "zero rated, letters of intent"},
		"N3.6": {"non imponibili, fuori dal plafond", "zero rated, outside the plafond"},
		"N4":   {"esenti", "exempt"},
		"N5":   {"regime del margine, IVA non esposta", "margin scheme, VAT not shown"},
		"N6":   {"inversione contabile", "reverse charge"},
		"N6.1": {"inversione contabile, rottami", "reverse charge, scrap"},
		"N6.2": {"inversione contabile, oro e argento", "reverse charge, gold and silver"},
		"N6.3": {"inversione contabile, subappalto edile", "reverse charge, building subcontracts"},
		"N6.4": {"inversione contabile, fabbricati", "reverse charge, buildings"},
		"N6.5": {"inversione contabile, telefoni cellulari", "reverse charge, mobile phones"},
		"N6.6": {"inversione contabile, prodotti elettronici", "reverse charge, electronics"},
		"N6.7": {"inversione contabile, comparto edile", "reverse charge, building sector"},
		"N6.8": {"inversione contabile, settore energetico", "reverse charge, energy sector"},
		"N6.9": {"inversione contabile, altri casi", "reverse charge, other cases"},
		"N7":   {"IVA assolta in altro stato UE", "VAT paid in another EU state"},
	},
	listModalitaPagamento: {
		"MP01": {"contanti", "cash"},
		"MP02": {"assegno", "cheque"},
		"MP03": {"assegno circolare", "banker's draft"},
		"MP04": {"contanti presso la tesoreria", "cash at the treasury"},
		"MP05": {"bonifico", "bank transfer"},
		"MP06": {"vaglia cambiario", "promissory note"},
		"MP07": {"bollettino bancario", "bank slip"},
		"MP08": {"carta di pagamento", "payment card"},
		"MP09": {"RID", "RID direct debit"},
		"MP10": {"RID utenze", "RID direct debit, utilities"},
		"MP11": {"RID veloce", "RID direct debit, fast"},
		"MP12": {"RIBA", "bank receipt (RIBA)"},
		"MP13": {"MAV", "MAV slip"},
		"MP14": {"quietanza erario", "treasury receipt"},
		"MP15": {"giroconto di contabilità speciale", "transfer between special accounts"},
		"MP16": {"domiciliazione bancaria", "standing order at a bank"},
		"MP17": {"domiciliazione postale", "standing order at the post"},
		"MP18": {"bollettino di conto corrente postale", "postal account slip"},
		"MP19": {"addebito diretto SEPA", "SEPA direct debit"},
		"MP20": {"addebito diretto SEPA CORE", "SEPA direct debit CORE"},
		"MP21": {"addebito diretto SEPA B2B", "SEPA direct debit B2B"},
		"MP22": {"trattenuta su somme riscosse", "deducted from sums collected"},
		"MP23": {"PagoPA", "PagoPA"},
	},
	listCondizioniPagamento: {
		"TP01": {"a rate", "by instalments"},
		"TP02": {"completo", "in full"},
		"TP03": {"anticipo", "in advance"},
	},
	listEsigibilita: {
		"I": {"immediata", "immediate"},
		"D": {"differita", "deferred"},
		"S": {"scissione dei pagamenti", "split payment"},
	},
	listTipoCassa: {
		"TC01": {"avvocati", "lawyers"},
		"TC02": {"dottori commercialisti", "chartered accountants"},
		"TC03": {"geometri", "surveyors"},
		"TC04": {"ingegneri e architetti (Inarcassa)", "engineers and architects (Inarcassa)"},
		"TC05": {"notai", "notaries"},
		"TC06": {"ragionieri", "accountants"},
		"TC07": {"agenti di commercio (ENASARCO)", "sales agents (ENASARCO)"},
		"TC08": {"consulenti del lavoro (ENPACL)", "labour consultants (ENPACL)"},
		"TC09": {"medici (ENPAM)", "doctors (ENPAM)"},
		"TC10": {"farmacisti (ENPAF)", "pharmacists (ENPAF)"},
		"TC11": {"veterinari (ENPAV)", "veterinarians (ENPAV)"},
		"TC12": {"impiegati dell'agricoltura (ENPAIA)", "farm employees (ENPAIA)"},
		"TC13": {"spedizionieri e agenzie marittime", "shipping agents"},
		"TC14": {"giornalisti (INPGI)", "journalists (INPGI)"},
		"TC15": {"orfani sanitari (ONAOSI)", "orphans of health workers (ONAOSI)"},
		"TC16": {"giornalisti, integrativa (CASAGIT)", "journalists, supplementary (CASAGIT)"},
		"TC17": {"periti industriali (EPPI)", "industrial technicians (EPPI)"},
		"TC18": {"pluricategoriale (EPAP)", "several professions (EPAP)"},
		"TC19": {"biologi (ENPAB)", "biologists (ENPAB)"},
		"TC20": {"infermieri (ENPAPI)", "nurses (ENPAPI)"},
		"TC21": {"psicologi (ENPAP)", "psychologists (ENPAP)"},
		"TC22": {"INPS", "INPS"},
	},
	listTipoRitenuta: {
		"RT01": {"acconto, persone fisiche", "on account, natural persons"},
		"RT02": {"acconto, persone giuridiche", "on account, legal persons"},
		"RT03": {"contributo INPS", "INPS contribution"},
		"RT04": {"contributo ENASARCO", "ENASARCO contribution"},
		"RT05": {"contributo ENPAM", "ENPAM contribution"},
		"RT06": {"altro contributo previdenziale", "other pension contribution"},
	},
	listCausalePagamento: {
		"A":  {"lavoro autonomo abituale", "regular self-employment"},
		"B":  {"opere dell'ingegno e brevetti, all'autore", "works and patents, to their author"},
		"C":  {"associazione in partecipazione con apporto di solo lavoro", "partnership contributing work alone"},
		"D":  {"utili ai soci promotori e fondatori", "profits to promoters and founders"},
		"E":  {"levata di protesti", "drawing up protests"},
		"G":  {"fine dell'attività sportiva professionale", "end of professional sport"},
		"H":  {"fine del rapporto di agenzia", "end of an agency"},
		"I":  {"fine delle funzioni notarili", "end of notarial office"},
		"L":  {"opere dell'ingegno e brevetti, a chi li ha ricevuti", "works and patents, to who was given them"},
		"L1": {"opere dell'ingegno e brevetti, a chi li ha comprati", "works and patents, to who bought them"},
		"M":  {"lavoro autonomo occasionale", "occasional self-employment"},
		"M1": {"obblighi di fare, non fare o permettere", "duties to do, not to do or to allow"},
		"M2": {"lavoro autonomo occasionale, gestione separata ENPAPI", "occasional self-employment, ENPAPI separate scheme"},
		"N":  {"sport dilettantistico, cori, bande, filodrammatiche", "amateur sport, choirs, bands and theatre"},
		"O":  {"lavoro autonomo occasionale, senza gestione separata", "occasional self-employment, no separate scheme"},
		"O1": {"obblighi di fare, non fare o permettere, senza gestione separata", "duties to do, not to do or to allow, no separate scheme"},
		"P":  {"uso di attrezzature, a non residenti", "use of equipment, to non-residents"},
		"Q":  {"provvigioni ad agente monomandatario", "commission to an agent of one principal"},
		"R":  {"provvigioni ad agente plurimandatario", "commission to an agent of several principals"},
		"S":  {"provvigioni a commissionario", "commission to a commission agent"},
		"T":  {"provvigioni a mediatore", "commission to a broker"},
		"U":  {"provvigioni a procacciatore di affari", "commission to a business finder"},
		"V":  {"provvigioni per vendite a domicilio", "commission for door-to-door sales"},
		"V1": {"attività commerciali occasionali", "occasional trade"},
		"W":  {"contratti d'appalto", "works contracts"},
		"X":  {"canoni del 2004 a società estere", "royalties of 2004 to foreign companies"},
		"Y":  {"canoni del 2005 a società estere", "royalties of 2005 to foreign companies"},
		"Z":  {"altro titolo", "other reason"},
		"ZO": {"altro titolo", "other reason"},
	},
	listSoggettoEmittente: {
		"CC": {"cessionario o committente", "the buyer"},
		"TZ": {"terzo", "a third party"},
	},
	listTipoCessione: {
		"SC": {"sconto", "discount"},
		"PR": {"premio", "bonus"},
		"AB": {"abbuono", "rebate"},
		"AC": {"spesa accessoria", "accessory cost"},
	},
	listScontoMaggiorazione: {
		"SC": {"sconto", "discount"},
		"MG": {"maggiorazione", "surcharge"},
	},
	listStatoLiquidazione: {
		"LS": {"in liquidazione", "in liquidation"},
		"LN": {"non in liquidazione", "not in liquidation"},
	},
	listSocioUnico: {
		"SU": {"socio unico", "one shareholder"},
		"SM": {"più soci", "several shareholders"},
	},
	listYes: {
		"SI": {"sì", "yes"},
	},
}
