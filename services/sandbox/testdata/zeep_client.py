"""A transmitter and an exchange written by strangers: zeep, driven by the official WSDLs.

usage: zeep_client.py submit|notify WSDL URL CERT KEY CA NAME FILE [ID]
"""
import sys

import requests
import zeep
from zeep.transports import Transport

mode, wsdl, url, cert, key, ca, name, path = sys.argv[1:9]
session = requests.Session()
session.trust_env = False
session.cert = (cert, key)
session.verify = ca
client = zeep.Client(wsdl, transport=Transport(session=session, timeout=20))
ns = "{http://www.fatturapa.gov.it/sdi/ws/trasmissione/v1.0}"
with open(path, "rb") as f:
    data = f.read()
if mode == "submit":
    service = client.create_service(ns + "SdIRiceviFile_binding", url)
    answer = service.RiceviFile(NomeFile=name, File=data)
    print(answer.IdentificativoSdI, answer.DataOraRicezione.isoformat(), answer.Errore)
else:
    service = client.create_service(ns + "TrasmissioneFatture_binding", url)
    for operation in (
        "RicevutaConsegna", "NotificaMancataConsegna", "NotificaScarto",
        "NotificaEsito", "NotificaDecorrenzaTermini", "AttestazioneTrasmissioneFattura",
    ):
        getattr(service, operation)(IdentificativoSdI=int(sys.argv[9]), NomeFile=name, File=data)
    print("ok")
