package conservation

import (
	"context"
	"fmt"
	"html"
	"io"
	"strings"
	"time"

	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/run"
)

// annex is one annex of the manual, in the order and with the letter of the Guidelines.
// spec: Linee Guida AgID §4.6 (contents of the manuale di conservazione)
type annex struct {
	letter string
	title  string
	parts  []any // a paragraph (string) or a table
}

type table struct {
	head []string
	rows [][]string
}

// manualVerb prints the technical annexes of the manuale di conservazione as the configuration in force makes them:
// what this program decides, with its terms, algorithms, authorities and places. What is organisation (persons, premises,
// procedures of the house, the public official) stays with the responsabile della conservazione, and the text says so.
func manualVerb(name string, form func([]annex) string) run.Verb {
	return run.Verb{
		Name: name, Short: "Print the technical annexes of the manuale di conservazione (" + name + "), in Italian, from the configuration in force",
		Run: func(_ context.Context, in run.Invocation) error {
			cfg := DefaultConfig()
			err := in.Config(&cfg)
			if err != nil {
				return err
			}
			_, err = io.WriteString(in.Out, form(annexes(cfg, run.Version())))
			return err
		},
	}
}

const manualTitle = "Manuale di conservazione: allegati tecnici"

const manualIntro = "Questi allegati sono stampati dal programma a partire dalla configurazione in vigore: ogni valore che vi compare è quello con cui " +
	"il sistema lavora. Le parti organizzative del manuale (soggetti, deleghe, procedure interne, sedi) sono a cura del responsabile della conservazione."

func annexes(cfg Config, version string) []annex {
	return []annex{
		manualRoles(cfg), manualStructure(cfg), manualObjects(), manualIntake(cfg), manualPackages(cfg), manualExhibition(cfg), manualComponents(cfg, version),
		manualChecks(cfg), manualCopies(), manualTerms(cfg), manualOfficial(), manualLaw(cfg),
	}
}

func manualRoles(cfg Config) annex {
	r := cfg.Responsible
	name := r.FormalName
	if name == "" {
		name = r.FirstName + " " + r.LastName
	}
	return annex{"a", "Responsabile che firma i pacchetti", []any{
		table{[]string{"Voce", "Valore"}, [][]string{
			{"Firmatario indicato negli indici (AuthorizedSigner)", name}, {"Identificativo", r.ID}, {"Ruolo", r.Role}, {"Atto di nomina", r.Deed},
			{"Credenziale di firma", cfg.Credential}, {"Identità di chi firma", identity(cfg.CredentialRootsFile, "verifiche e rapporti la riconducono alle radici in")},
			{"Contratto richiamato nei pacchetti", cfg.Contract},
		}},
		"I nominativi succedutisi nel tempo e le deleghe sono riportati dal responsabile della conservazione. I dati del firmatario sono fissati in ogni pacchetto alla sua chiusura.",
	}}
}

// identity says against which roots somebody's identity is judged.
func identity(file, how string) string {
	if file == "" {
		return "non verificata dal sistema: non sono indicate radici"
	}
	return how + " " + file
}

func manualStructure(cfg Config) annex {
	return annex{"b", "Struttura organizzativa", []any{
		"Il sistema di conservazione è distinto dal sistema di gestione: ha base di dati, archivi, utenze e registri propri. Riceve gli oggetti per evento dai servizi di fatturazione e di posta, " +
			"e per chiamata. Produttore del programma: " + cfg.Producer + ". La ripartizione dei compiti tra titolare, produttore, responsabile e conservatore è a cura del responsabile della conservazione.",
	}}
}

func manualObjects() annex {
	var rows [][]string
	for _, c := range classes {
		rows = append(rows, []string{c.name, c.description, c.basis, counted(int(c.years), "anno", "anni"), counted(int(c.least), "anno", "anni")})
	}
	var kinds [][]string
	for _, f := range formats {
		word := "no"
		if f.admitted {
			word = "sì"
		}
		kinds = append(kinds, []string{f.name, strings.Join(f.extensions, " "), word})
	}
	return annex{"c", "Tipologie di oggetti, formati e metadati", []any{
		table{[]string{"Classe", "Oggetti", "Fondamento", "Conservazione", "Mai meno di"}, rows},
		table{[]string{"Formato, riconosciuto dal contenuto", "Estensioni", "Ammesso"}, kinds},
		"I byte sono conservati come ricevuti. I metadati seguono l'Allegato 5 delle Linee Guida (documento informatico), un file per unità documentaria, con impronta SHA-256 in base64. " +
			"Il termine di conservazione decorre dal 31 dicembre dell'anno successivo a quello in cui termina il periodo d'imposta; un titolare può allungarlo per i pacchetti chiusi da allora in poi. Un file con più fatture è un solo oggetto con più chiavi di ricerca. Non si conservano le fatture scartate, che non sono emesse.",
	}}
}

func manualIntake(cfg Config) annex {
	d := cfg.Deposits
	events := "nessuno: il registro delle prove non è configurato"
	if cfg.Log.on() {
		events = "non rilasciati"
		if d.EventReports > 0 {
			events = fmt.Sprintf("uno per titolare, al più ogni %s e per non più di %d voci del registro", inWords(d.EventReports), submissionLeaves)
		}
	}
	copies := "Un'unità è presa in carico quando documento, ricevute e metadati sono scritti con sincronizzazione su disco e riletti da ogni replica"
	if cfg.Storage.on() {
		copies += "; con una replica assente da più di " + inWords(cfg.Storage.DegradeAfter) + ", da quella che resta, e il rapporto dice quante copie ci sono"
	} else {
		copies = "Un'unità è presa in carico quando documento, ricevute e metadati sono nell'archivio della piattaforma: nessuna replica è configurata"
	}
	var refusals [][]string
	for _, r := range refusalTexts {
		refusals = append(refusals, []string{r.code, r.text})
	}
	parts := []any{
		copies + ". Lo stesso documento dà sempre la stessa unità; byte diversi sotto la stessa chiave sono un conflitto rimesso a una persona.",
		table{[]string{"Voce", "Regola"}, [][]string{
			{"Impronta", "SHA-256, calcolata durante la ricezione e di nuovo su ciò che è stato scritto; se dichiarata, deve coincidere"},
			{"Byte al massimo di un file versato", bytesText(d.MaxBytes)},
			{"Rifiuti ammessi per una chiave", fmt.Sprintf("%d; prima dell'ultimo tentativo il produttore è avvisato", d.Attempts)},
			{"Rapporto di versamento (RdV)", "XML (rdv.xsd) firmato CAdES con la credenziale di firma, marcato, conservato come i documenti; non nomina la chiave del produttore né contenuti"},
			{"RdV dei versamenti", "uno per versamento accettato"},
			{"RdV di ciò che arriva per evento", events},
			{"Pacchetti di altri conservatori", "UNI 11386 (IdC 2010, PIndex 2020): indice, impronte, firma e marca verificati; conservati come ricevuti"},
		}},
		table{[]string{"Motivo di rifiuto di un versamento", "Significato"}, refusals},
	}
	if cfg.Log.on() {
		parts = append(parts, fmt.Sprintf("Ogni presa in carico è una foglia del registro delle prove %s entro %s; la ricevuta (c2sp.org/tlog-proof) ne dà numero progressivo per titolare, prova d'inclusione, firma del registro e marca temporale, e si verifica senza il conservatore.", cfg.Log.Origin, inWords(cfg.Log.Every)))
	} else {
		parts = append(parts, "Il registro delle prove non è configurato: non sono rilasciate ricevute.")
	}
	return annex{"d", "Presa in carico", parts}
}

// refusalTexts are the reasons for which a deposit is refused, as the manual explains them.
var refusalTexts = []struct{ code, text string }{
	{problemDigest, "l'impronta dichiarata non è quella dei byte ricevuti"},
	{problemFormat, "il formato, riconosciuto dal contenuto, non è ammesso"},
	{problemName, "il nome del file dice un altro formato"},
	{problemInside, "un contenitore (ZIP, .p7m) ha dentro ciò che non è ammesso"},
	{problemFileName, "il nome del file non è sicuro"},
	{problemMetadata, "mancano metadati obbligatori o non sono validi"},
	{problemPrimary, "il documento principale indicato non è in archivio"},
	{problemPackage, "il pacchetto di un altro conservatore non supera la verifica"},
	{problemFatturaPA, "la classe è riservata alle fatture, che arrivano dal servizio di fatturazione"},
}

func manualPackages(cfg Config) annex {
	rows := [][]string{
		{"Contenuto", "un titolare, un periodo d'imposta, una classe"},
		{"Struttura", fmt.Sprintf("BagIt 1.0 in un file ZIP a byte deterministici, disposizione %d", layoutVersion)},
		{"Indice", "PIndex.xml, UNI 11386:2020 (SInCRO)"},
		{"Firma", "CAdES dell'indice con certificato di ruolo"},
		{"Marca temporale", "RFC 3161 sull'indice firmato, " + authorities(cfg)},
		{"Unità al massimo", fmt.Sprint(cfg.MaxUnits)},
		{"Byte al massimo", bytesText(cfg.Closing.Bytes)},
	}
	if c := cfg.Closing; c.Every > 0 {
		rows = append(rows, []string{"Chiusura per età", inWords(c.Age)}, []string{"Chiusura per età, posta certificata", inWords(min(c.Age, c.MailAge))},
			[]string{"Chiusura prima del termine di legge", inWords(c.BeforeDeadline)}, []string{"Controllo delle chiusure", often(c.Every)})
	} else {
		rows = append(rows, []string{"Chiusura", "solo a richiesta: nessun pacchetto si chiude da sé"})
	}
	if r := cfg.Revocation; r.Fetch {
		rows = append(rows, []string{"Stato dei certificati", fmt.Sprintf("liste di revoca (CRL) o risposte (OCSP) degli emittenti, chieste prima che firma e marca contino e di nuovo alla sigillatura, entro %s; "+
			"una risposta vale per %s e non oltre la propria scadenza; quelle avute, fino a %s ciascuna, sono nel pacchetto, che dice anche quali mancano", inWords(r.Timeout), inWords(r.Reuse), bytesText(r.MaxList))})
	} else {
		rows = append(rows, []string{"Stato dei certificati", "agli emittenti non si chiede nulla"})
	}
	return annex{"e", "Pacchetti di archiviazione", []any{
		table{[]string{"Voce", "Regola"}, rows},
		"Stati: CLOSED, INDEXED, SIGNED, STAMPED, SEALED; ogni passo è ripetibile e dà gli stessi byte. Un pacchetto sigillato non cambia: ricevute tardive danno un'unità di integrazione in un pacchetto successivo, che richiama la prima. " +
			"Se nessuna autorità marca, il pacchetto attende, e dopo " + inWords(cfg.StampAlarm) + " è dato l'allarme; lo scarto ammesso tra gli orologi è " + inWords(cfg.ClockTolerance) + ".",
	}}
}

func authorities(cfg Config) string {
	names := make([]string, len(cfg.TSA))
	for i, t := range cfg.TSA {
		names[i] = t.Name + " (" + t.URL + ", radici in " + t.CAFile + ")"
	}
	return "in quest'ordine: " + strings.Join(names, ", ")
}

func manualExhibition(cfg Config) annex {
	kept := "Il PdD resta scaricabile finché non vengono distrutti i documenti che contiene."
	if cfg.Distributions.Keep > 0 {
		kept = "Il PdD resta scaricabile per " + inWords(cfg.Distributions.Keep) + "; poi il sistema ne conserva l'impronta, e lo produce di nuovo a richiesta."
	}
	return annex{"f", "Esibizione ed esportazione", []any{
		"La ricerca usa cognome, nome, denominazione, codice fiscale, partita IVA e data, combinati con E ed O (DMEF 17 giugno 2014, art. 3), oltre a numero, tipo, identificativo SdI, classe, periodo e stato. " +
			fmt.Sprintf("Il pacchetto di distribuzione (PdD), di non più di %d unità, è uno ZIP che si apre senza rete: originali,", mostExhibited) + " ricevute, metadati, copie di consultazione contrassegnate, prove, indice PIndex firmato e marcato, e verifica.sh che usa solo sh con i comandi di POSIX, openssl e xmllint. " + kept,
		"Il titolare esporta da sé, anche a più riprese, tutto ciò che l'archivio ha di lui: pacchetti come sono, prove, rapporti, indice dei documenti, in un bag BagIt firmato e marcato che si verifica senza il sistema e che un altro sistema può acquisire.",
		"Gli incaricati dei controlli accedono con credenziali nominative, a termine (al massimo un anno), in sola lettura; ogni consultazione è registrata prima di essere mostrata, e il titolare ne legge il registro. L'accesso continua se il contratto del titolare è sospeso.",
	}}
}

func manualComponents(cfg Config, version string) annex {
	storage := [][]string{{"Programma", cfg.Producer + " " + version}}
	said := "Gli oggetti si scrivono una volta."
	if cfg.Storage.on() {
		storage = append(storage, []string{"Replica primaria", cfg.Storage.Primary.place()}, []string{"Seconda replica", cfg.Storage.Second.place()},
			[]string{"Presa in carico con una sola copia, dichiarata, dopo", inWords(cfg.Storage.DegradeAfter)},
			[]string{"Segni di dove è arrivata la base di dati, nelle repliche", "a ogni avvio e " + often(cfg.Storage.MarkEvery) + ": una base riportata indietro è riconosciuta, e nulla è preso in carico finché non è ricostruita"})
		said += " Copie danneggiate sono messe da parte e rifatte dalla copia buona, con evento e registrazione."
		if cfg.Storage.Primary.FS.Dir != "" || cfg.Storage.Second.FS.Dir != "" {
			said += " Il servizio non ha codice che cancelli; in una cartella lo impedisce solo il file system, se è di un altro utente o non riscrivibile (WORM)."
		}
		if cfg.Storage.Primary.S3.Bucket != "" || cfg.Storage.Second.S3.Bucket != "" {
			said += " In un deposito S3 le credenziali del servizio non possono cancellare, e Object Lock rifiuta a chiunque di togliere un pacchetto prima della fine del suo termine."
		}
	} else {
		storage = append(storage, []string{"Archivio", "una copia nell'archivio della piattaforma: nessuna replica è configurata"})
	}
	parts := []any{table{[]string{"Componente", "Valore"}, storage}, said}
	if cfg.Log.on() {
		rows := [][]string{{"Nome", cfg.Log.Origin}, {"Formato", "albero di Merkle (RFC 6962), C2SP tlog-tiles, note firmate Ed25519"}, {"Intervallo", inWords(cfg.Log.Every)}}
		for _, k := range cfg.Log.FormerKeys {
			rows = append(rows, []string{"Chiave precedente", k})
		}
		if len(cfg.Log.Witnesses) == 0 {
			rows = append(rows, []string{"Testimoni", "nessuno: che a tutti sia mostrata la stessa storia lo provano solo le ricevute e le comunicazioni ai titolari"})
		} else {
			rows = append(rows, []string{"Testimoni che devono controfirmare", fmt.Sprintf("%d di %d, ogni %s", cfg.Log.Quorum, len(cfg.Log.Witnesses), inWords(cfg.Log.CosignEvery))})
		}
		for _, w := range cfg.Log.Witnesses {
			name := w.Key
			if v, err := tlog.ParseVerifier(w.Key); err == nil {
				name = v.Name()
			}
			rows = append(rows, []string{"Testimone " + name, w.URL})
		}
		told := "Il primo stato di ogni giorno è marcato (RFC 3161) e comunicato a ogni titolare; in un giorno senza nuove voci l'ultimo è marcato di nuovo dopo le 18 (UTC). Le foglie portano impronte e nessun dato personale."
		if len(cfg.Log.Witnesses) > 0 {
			told += " Una base di dati riportata indietro è riconosciuta dai testimoni e non viene continuata."
		}
		parts = append(parts, table{[]string{"Registro delle prove", "Valore"}, rows}, told)
	}
	return annex{"g", "Componenti del sistema", parts}
}

// place is where a replica is, without its secrets.
func (c ReplicaConfig) place() string {
	if c.FS.Dir != "" {
		return "cartella " + c.FS.Dir
	}
	text := "S3 con Object Lock, " + c.S3.Endpoint + ", deposito " + c.S3.Bucket
	if c.S3.Prefix != "" {
		text += ", prefisso " + c.S3.Prefix
	}
	if c.S3.Region != "" {
		text += ", regione " + c.S3.Region
	}
	return text
}

func manualChecks(cfg Config) annex {
	c := cfg.Checks
	rows := [][]string{
		{"Rilettura", "a ogni scrittura", "la copia in ogni replica"},
		{"Lettura integrale (scrub)", often(c.Scrub), "ogni copia dopo un giorno, dopo un mese, poi ogni " + inWords(c.ScrubEvery) + "; al massimo " + bytesText(c.ScrubBytes) + " per giro"},
		{"Verifica del pacchetto (deep)", often(c.Deep), fmt.Sprintf("ogni pacchetto almeno ogni %s, fino a %d per giro: manifesti, indice, firma, marca, registro, leggibilità", inWords(c.DeepEvery), c.DeepPackages)},
		{"Quadratura", often(c.Completeness), "fatture concluse, fatture ricevute e messaggi delle giornate di posta, da almeno " + inWords(c.Settling) + ", contro le unità; unità, foglie del registro, numeri progressivi"},
		{"Prova di ripristino", often(c.RestoreDrill), "un titolare a sorte, dalla sola seconda replica"},
		{"Inventario", often(c.Inventory), "elenchi delle repliche contro i registri: mancanti e orfani"},
		{"Rinnovo delle prove", often(c.Renewal), fmt.Sprintf("marche e algoritmi che finiscono entro %s (RFC 4998), fino a %d pacchetti con una marca", inWords(cfg.Renewal.Ahead), cfg.Renewal.Packages)},
	}
	ends := [][]string{}
	for _, a := range cfg.Renewal.Algorithms {
		ends = append(ends, []string{a.Name, a.Until})
	}
	parts := []any{table{[]string{"Controllo", "Cadenza", "Oggetto"}, rows},
		"Ogni controllo lascia un rapporto firmato, conservato in entrambe le repliche. La legge chiede la verifica di integrità e leggibilità almeno ogni cinque anni."}
	if len(ends) > 0 {
		parts = append(parts, table{[]string{"Algoritmo", "Usato fino al"}, ends})
	}
	if cfg.Renewal.FormerRootsFile != "" {
		parts = append(parts, "Le autorità di marcatura a cui non si chiede più restano riconosciute dalle radici in "+cfg.Renewal.FormerRootsFile+".")
	}
	return annex{"h", "Monitoraggio e verifiche di integrità", append(parts,
		"Nuovi alberi di impronte usano "+cfg.Renewal.Hash+". Anomalie: la copia danneggiata è messa da parte e rifatta; senza copia buona nulla viene toccato e decide una persona.")}
}

func manualCopies() annex {
	return annex{"i", "Duplicati e copie", []any{
		"Il duplicato informatico ha gli stessi byte dell'originale e si scarica dal sistema o dal pacchetto di distribuzione. Le viste leggibili sono copie di consultazione e lo dichiarano in ogni pagina.",
		"Il sistema non esegue riversamenti: nessun documento è convertito in un altro formato.",
	}}
}

func manualTerms(cfg Config) annex {
	days := make([]string, len(alarms))
	for i, d := range alarms {
		days[i] = fmt.Sprint(d)
	}
	return annex{"j", "Termini", []any{
		table{[]string{"Termine", "Regola"}, [][]string{
			{"Chiusura del processo", fmt.Sprintf("%d mesi dalla fine del periodo d'imposta (dichiarazione a %d, conservazione entro %d dalla dichiarazione); periodi non solari per titolare", monthsToReturn+monthsToArchive, monthsToReturn, monthsToArchive)},
			{"Preavvisi al titolare, giorni prima", strings.Join(days, ", ")},
			{"Sigillo d'ufficio", closingBefore(cfg.Closing)},
			{"Conservazione", "per classe, come all'allegato c; decorre dalla fine dell'anno della dichiarazione"},
		}},
		table{[]string{"Scarto", "Regola"}, [][]string{
			{"Elenco", "dei pacchetti a termine scaduto e senza blocchi, a richiesta: nessuno scarto avviene da sé"},
			{"Autorizzazione", "del titolare, anche parziale, e della Soprintendenza dove serve; le firme di un atto firmato devono reggere"},
			{"Identità di chi firma l'atto", identity(cfg.Disposal.DeedRootsFile, "l'atto deve essere firmato, e la firma è ricondotta alle radici in")},
			{"Esecuzione", "approvata da due persone diverse, eseguita da un programma a sé con credenziali proprie su ogni replica e sull'archivio della piattaforma"},
			{"Copie negli altri servizi", copiesElsewhere(cfg.Disposal)},
			{"Esito", "rapporto firmato, conservato; parziale finché non è dichiarato che anche i backup non hanno più i documenti; restano identificativi, impronte e date"},
		}},
		"Un blocco legale (su un'unità, un pacchetto, un periodo, una classe o tutto) prevale sempre.",
	}}
}

func closingBefore(c ClosingConfig) string {
	if c.Every == 0 {
		return "nessuno: i pacchetti si chiudono solo a richiesta"
	}
	return inWords(c.BeforeDeadline) + " prima del termine"
}

func copiesElsewhere(c DisposalConfig) string {
	if len(c.Holders) == 0 {
		return "nessun altro servizio è indicato"
	}
	return "cancellate quando " + strings.Join(c.Holders, ", ") + " hanno risposto che nulla di ciò che resta ne ha bisogno, e dopo " + inWords(c.Quiet) + " senza scritture"
}

func manualOfficial() annex {
	return annex{"k", "Pubblico ufficiale", []any{"I casi in cui è richiesto l'intervento di un pubblico ufficiale sono indicati dal responsabile della conservazione."}}
}

func manualLaw(cfg Config) annex {
	places := "il luogo è quello dell'archivio della piattaforma"
	if cfg.Storage.on() {
		places = "le repliche sono in: " + cfg.Storage.Primary.place() + "; " + cfg.Storage.Second.place()
	}
	return annex{"l", "Norme e luoghi di conservazione", []any{"Norme richiamate nei pacchetti: " + laws + ".", "Luoghi: " + places + "."}}
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// inWords is a duration in Italian words, in the largest unit that fits.
func inWords(d time.Duration) string {
	if d == 0 {
		return "0 secondi"
	}
	for _, u := range []struct {
		size      time.Duration
		one, many string
	}{{aDay, "giorno", "giorni"}, {time.Hour, "ora", "ore"}, {time.Minute, "minuto", "minuti"}, {time.Second, "secondo", "secondi"}, {time.Millisecond, "millisecondo", "millisecondi"}} {
		if d >= u.size && d%u.size == 0 {
			return counted(int(d/u.size), u.one, u.many)
		}
	}
	return d.String()
}

func often(d time.Duration) string {
	if d == 0 {
		return "a richiesta"
	}
	return "ogni " + strings.TrimPrefix(inWords(d), "1 ")
}

func bytesText(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size && n%u.size == 0 {
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d byte", n)
}

func markdownManual(list []annex) string {
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", manualTitle, manualIntro)
	row := func(cells []string) {
		for _, c := range cells {
			fmt.Fprintf(&b, "| %s ", cell.Replace(c))
		}
		b.WriteString("|\n")
	}
	for _, a := range list {
		fmt.Fprintf(&b, "\n## %s) %s\n", a.letter, a.title)
		for _, part := range a.parts {
			b.WriteByte('\n')
			switch p := part.(type) {
			case string:
				b.WriteString(p + "\n")
			case table:
				row(p.head)
				b.WriteString(strings.Repeat("|---", len(p.head)) + "|\n")
				for _, r := range p.rows {
					row(r)
				}
			}
		}
	}
	return b.String()
}

func htmlManual(list []annex) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"it\">\n<head>\n<meta charset=\"utf-8\">\n<title>%s</title>\n"+
		"<style>body{font:1rem/1.5 serif;max-width:50rem;margin:2rem auto}table{border-collapse:collapse}td,th{border:1px solid;padding:.2rem .5rem;text-align:left;vertical-align:top}</style>\n</head>\n<body>\n<h1>%s</h1>\n<p>%s</p>\n",
		html.EscapeString(manualTitle), html.EscapeString(manualTitle), html.EscapeString(manualIntro))
	for _, a := range list {
		fmt.Fprintf(&b, "<h2>%s) %s</h2>\n", a.letter, html.EscapeString(a.title))
		for _, part := range a.parts {
			switch p := part.(type) {
			case string:
				fmt.Fprintf(&b, "<p>%s</p>\n", html.EscapeString(p))
			case table:
				b.WriteString("<table>\n" + htmlRow("th", p.head))
				for _, r := range p.rows {
					b.WriteString(htmlRow("td", r))
				}
				b.WriteString("</table>\n")
			}
		}
	}
	b.WriteString("</body>\n</html>\n")
	return b.String()
}

func htmlRow(kind string, cells []string) string {
	var b strings.Builder
	b.WriteString("<tr>")
	for _, c := range cells {
		fmt.Fprintf(&b, "<%s>%s</%s>", kind, html.EscapeString(c), kind)
	}
	b.WriteString("</tr>\n")
	return b.String()
}
