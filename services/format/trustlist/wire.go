package trustlist

import "encoding/xml"

// The members of a list that are read. Namespaces are those of TS 119 612 version 2.
// spec: TS119612 annex C
type wireList struct {
	XMLName     xml.Name       `xml:"http://uri.etsi.org/02231/v2# TrustServiceStatusList"`
	Sequence    int            `xml:"SchemeInformation>TSLSequenceNumber"`
	Type        string         `xml:"SchemeInformation>TSLType"`
	Territory   string         `xml:"SchemeInformation>SchemeTerritory"`
	Information []string       `xml:"SchemeInformation>SchemeInformationURI>URI"`
	Issued      string         `xml:"SchemeInformation>ListIssueDateTime"`
	Next        string         `xml:"SchemeInformation>NextUpdate>dateTime"`
	Pointers    []wirePointer  `xml:"SchemeInformation>PointersToOtherTSL>OtherTSLPointer"`
	Providers   []wireProvider `xml:"TrustServiceProviderList>TrustServiceProvider"`
}

type wirePointer struct {
	Certificates []string `xml:"ServiceDigitalIdentities>ServiceDigitalIdentity>DigitalId>X509Certificate"`
	Location     string   `xml:"TSLLocation"`
	Information  []struct {
		Type      string `xml:"TSLType"`
		Territory string `xml:"SchemeTerritory"`
		MIME      string `xml:"MimeType"`
	} `xml:"AdditionalInformation>OtherInformation"`
}

type wireName struct {
	Lang string `xml:"http://www.w3.org/XML/1998/namespace lang,attr"`
	Text string `xml:",chardata"`
}

type wireProvider struct {
	Names    []wireName    `xml:"TSPInformation>TSPName>Name"`
	Services []wireService `xml:"TSPServices>TSPService"`
}

type wireService struct {
	Current wireStatus   `xml:"ServiceInformation"`
	History []wireStatus `xml:"ServiceHistory>ServiceHistoryInstance"`
}

type wireStatus struct {
	Type         string          `xml:"ServiceTypeIdentifier"`
	Names        []wireName      `xml:"ServiceName>Name"`
	Certificates []string        `xml:"ServiceDigitalIdentity>DigitalId>X509Certificate"`
	Status       string          `xml:"ServiceStatus"`
	Since        string          `xml:"StatusStartingTime"`
	Extensions   []wireExtension `xml:"ServiceInformationExtensions>Extension"`
}

type wireExtension struct {
	Additional []string `xml:"AdditionalServiceInformation>URI"`
	Elements   []struct {
		Qualifiers []struct {
			URI string `xml:"uri,attr"`
		} `xml:"Qualifiers>Qualifier"`
		Criteria []wireCriteria `xml:"CriteriaList"` // one
	} `xml:"Qualifications>QualificationElement"`
}
