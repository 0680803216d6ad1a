package soap

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

const open, end = `<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/">`, `</S:Envelope>`

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		open + `<S:Header><x><y/></x></S:Header><S:Body><a:opResponse xmlns:a="n"><return>yes</return></a:opResponse></S:Body>` + end: `yes`,
		open + `<S:Body><opResponse><return>yes</return></opResponse></S:Body>` + end:                                                 `yes`,
		open + `<S:Body><otherResponse/></S:Body>` + end:                                                                              `error`,
		open + `<S:Body/>` + end:                                                                                                    `error`,
		`<Envelope><Body><opResponse/></Body></Envelope>`:                                                                           `error`,
		`<!DOCTYPE a [<!ENTITY b "c">]>` + open + `<S:Body><opResponse/></S:Body>` + end:                                            `error`,
		open + `<S:Body><opResponse><return>ye`:                                                                                     `error`,
		open + `<S:Body><S:Fault><faultstring>broken</faultstring></S:Fault></S:Body>` + end:                                        `error`,
		open + `<S:Body><S:Fault><faultstring>44 - no</faultstring><detail><e/></detail></S:Fault></S:Body>` + end:                  `fault 44`,
		open + `<S:Body><S:Fault><faultstring>-4</faultstring><detail><w><error>1001</error></w></detail></S:Fault></S:Body>` + end: `fault 1001`,
		open + `<S:Body><S:Fault><faultstring>no number</faultstring><detail>x</detail></S:Fault></S:Body>` + end:                   `fault `,
		``:               `error`,
		`--uuid\r\nMIME`: `error`,
	} {
		var out struct {
			Return string `xml:"return"`
		}
		var fault *Fault
		err := parse([]byte(in), "op", &out, &fault)
		switch {
		case err != nil:
			out.Return = "error"
		case fault != nil:
			out.Return = "fault " + fault.Code
		}
		require.Equal(t, want, out.Return, in)
	}
}

// FuzzParse: whatever an answer holds, there is a response, a fault or an error, and never two of them.
func FuzzParse(f *testing.F) {
	f.Add([]byte(open + `<S:Body><opResponse><return>yes</return></opResponse></S:Body>` + end))
	f.Add([]byte(open + `<S:Body><S:Fault><faultstring>1</faultstring><detail><e><error>-9</error></e></detail></S:Fault></S:Body>` + end))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var out struct {
			Return Base64 `xml:"return"`
		}
		var fault *Fault
		err := parse(raw, "op", &out, &fault)
		if err != nil && fault != nil {
			t.Fatal("an error and a fault")
		}
		if fault != nil {
			if len(fault.Code) > 12 {
				t.Fatalf("code %q", fault.Code)
			}
			if _, err := json.Marshal(fault); err != nil {
				t.Fatal(err)
			}
		}
	})
}
