package main

import (
	"bytes"
	"encoding/json"
	"html/template"

	"ceralacca.dev/services/internal/fault"
)

// checkPage is a report of a check as it is printed.
type checkPage struct {
	Report   string `json:"report"`
	Kind     string `json:"kind"`
	Tenant   string `json:"tenant"`
	AskedBy  string `json:"asked_by"`
	Program  string `json:"program"`
	Began    string `json:"began"`
	Ended    string `json:"ended"`
	Verdict  string `json:"verdict"`
	Checked  int64  `json:"checked"`
	Bytes    int64  `json:"bytes"`
	What     string `json:"what"`
	Problems []struct {
		What    string `json:"what"`
		Problem string `json:"problem"`
	} `json:"problems"`
	Notes []string `json:"notes"`
}

var checkTemplate = template.Must(template.New("report").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Archive: {{.Kind}} {{.Ended}}</title>
<style>body{font:11pt/1.4 sans-serif;margin:2cm;max-width:24cm}table{border-collapse:collapse;width:100%}td,th{border:1px solid #999;padding:.2em .5em;text-align:left;vertical-align:top;overflow-wrap:anywhere}th{width:12em}</style></head><body>
<h1>Check of the archive: {{.Kind}}, {{.Verdict}}</h1>
<p>A copy to read. The evidence is the signed report of the same name.</p>
<table>
<tr><th>Report</th><td>{{.Report}}</td></tr>
<tr><th>Looked at</th><td>{{.What}}</td></tr>
<tr><th>Tenant</th><td>{{if .Tenant}}{{.Tenant}}{{else}}all{{end}}</td></tr>
<tr><th>Asked for by</th><td>{{.AskedBy}}</td></tr>
<tr><th>Began</th><td>{{.Began}}</td></tr>
<tr><th>Ended</th><td>{{.Ended}}</td></tr>
<tr><th>Checked</th><td>{{.Checked}}, {{.Bytes}} bytes</td></tr>
<tr><th>Program</th><td>{{.Program}}</td></tr>
</table>
<h2>Problems: {{len .Problems}}</h2>
{{if .Problems}}<table>{{range .Problems}}
<tr><th>{{.What}}</th><td>{{.Problem}}</td></tr>{{end}}
</table>{{end}}
{{if .Notes}}<h2>Notes</h2>
<ul>{{range .Notes}}
<li>{{.}}</li>{{end}}
</ul>{{end}}
</body></html>
`))

// pageOfCheck makes a page to print of a report.
func pageOfCheck(content []byte) ([]byte, error) {
	var p checkPage
	err := json.Unmarshal(content, &p)
	if err != nil {
		return nil, fault.Internal("ANSWER_MALFORMED", "the report cannot be read: %v", err)
	}
	var page bytes.Buffer
	err = checkTemplate.Execute(&page, p)
	return page.Bytes(), err
}
