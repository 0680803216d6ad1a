"""A client of the Cloud Signature Consortium API 2.0.0.2, written from its text alone (clauses 8.3 and 11).

It knows nothing of the server but its address, a bearer token, a PIN, and where text messages arrive.
It signs a document's digest, checks the signature with openssl, and prints what it found as JSON.
Python's standard library and the program openssl are all it needs.
"""
import base64, hashlib, json, os, re, subprocess, sys, tempfile, urllib.error, urllib.request

args = json.load(sys.stdin)
tmp = tempfile.mkdtemp()


def post(method, body, token=args["token"]):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    req = urllib.request.Request(args["base"] + "/" + method, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(req, timeout=30) as resp:
            raw = resp.read()
            return resp.status, json.loads(raw) if raw else None
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


def ok(method, body, status=200, **kw):
    got, answer = post(method, body, **kw)
    assert got == status, (method, got, answer)
    return answer


def file(name, data):
    path = os.path.join(tmp, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def openssl(*a):
    done = subprocess.run(["openssl", *a], capture_output=True)
    assert done.returncode == 0, (a, done.stdout, done.stderr)
    return done.stdout


def password():
    req = urllib.request.Request(args["messages"], headers={"Authorization": "Bearer " + args["messages_token"]})
    with urllib.request.urlopen(req) as resp:
        return re.search(r"\b[0-9]{8}\b", json.load(resp)[-1]["text"]).group()


SHA256 = "2.16.840.1.101.3.4.2.1"
info = ok("info", {}, token=None)
for name, kind in {"specs": str, "name": str, "logo": str, "region": str, "lang": str, "description": str, "authType": list,
                   "methods": list, "signAlgorithms": dict, "signature_formats": dict, "conformance_levels": list}.items():
    assert isinstance(info[name], kind), name
assert info["specs"].startswith("2.")

ids = ok("credentials/list", {"onlyValid": True})["credentialIDs"]
assert args["credential"] in ids, ids
cred = ok("credentials/info", {"credentialID": args["credential"], "certificates": "chain", "certInfo": True, "authInfo": True})
assert cred["key"]["status"] == "enabled" and cred["cert"]["status"] == "valid" and cred["SCAL"] == "2"
assert cred["auth"]["mode"] == "explicit" and cred["auth"]["expression"] == "PIN AND OTP"
kinds = {o["id"]: o["type"] for o in cred["auth"]["objects"]}
assert kinds == {"PIN": "Password", "OTP": "ChallengeResponse"}, kinds

certificate = file("cert.der", base64.b64decode(cred["cert"]["certificates"][0], validate=True))
public = file("public.pem", openssl("x509", "-inform", "DER", "-in", certificate, "-noout", "-pubkey"))
serial = openssl("x509", "-inform", "DER", "-in", certificate, "-noout", "-serial").decode().strip().split("=")[1]
assert serial.lstrip("0") == cred["cert"]["serialNumber"].lstrip("0"), (serial, cred["cert"]["serialNumber"])

documents = [("contract %d" % i).encode() for i in range(3)]
hashes = [base64.b64encode(hashlib.sha256(d).digest()).decode() for d in documents]
algorithm = cred["key"]["algo"][-1]  # of RSA the plain one, which needs the hash algorithm beside it


def authorize(hashes, n):
    ok("credentials/getChallenge", {"credentialID": args["credential"], "authObjectID": "OTP", "hashes": hashes,
                                    "hashAlgorithmOID": SHA256, "numSignatures": n}, status=204)
    return ok("credentials/authorize", {
        "credentialID": args["credential"], "numSignatures": n, "hashes": hashes, "hashAlgorithmOID": SHA256,
        "authData": [{"id": "PIN", "value": args["pin"]}, {"id": "OTP", "value": password()}], "clientData": "12345678"})


def sign(sad, hashes):
    return post("signatures/signHash", {"credentialID": args["credential"], "SAD": sad, "hashes": hashes,
                                        "hashAlgorithmOID": SHA256, "signAlgo": algorithm})


def check(document, signature):
    sig = file("sig", base64.b64decode(signature, validate=True))
    said = openssl("dgst", "-sha256", "-verify", public, "-signature", sig, file("doc", document))
    assert said.strip() == b"Verified OK", said
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, "-sigfile", sig,
            "-in", file("digest", hashlib.sha256(document).digest()), "-pkeyopt", "digest:sha256")


given = authorize(hashes[:2], 3)
assert 0 < given["expiresIn"] <= 3600
status, answer = sign(given["SAD"], hashes[1::-1])
assert status == 200, answer
for document, signature in zip(documents[1::-1], answer["signatures"], strict=True):
    check(document, signature)
status, answer = sign(given["SAD"], hashes[:2])
assert (status, answer["error"], answer["error_description"]) == (400, "invalid_request", "Invalid parameter SAD"), answer

further = ok("credentials/extendTransaction", {"credentialID": args["credential"], "SAD": given["SAD"], "hashes": hashes[2:], "hashAlgorithmOID": SHA256})
status, answer = sign(further["SAD"], hashes[2:])
assert status == 200, answer
check(documents[2], answer["signatures"][0])

given = authorize(hashes[:1], 1)
signed = ok("signatures/signDoc", {"credentialID": args["credential"], "SAD": given["SAD"], "documents": [
    {"document": base64.b64encode(documents[0]).decode(), "signature_format": "C", "conformance_level": "AdES-B-B",
     "signed_envelope_property": "Attached", "signAlgo": algorithm}]})
p7m = file("doc.p7m", base64.b64decode(signed["DocumentWithSignature"][0], validate=True))
content = openssl("cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", p7m, "-CAfile", args["ca"], "-purpose", "any")
assert content == documents[0], content

nonce = "1234567890ABCDEF"
stamp = ok("signatures/timestamp", {"hash": hashes[0], "hashAlgo": SHA256, "nonce": nonce})
token = file("token", base64.b64decode(stamp["timestamp"], validate=True))
openssl("ts", "-verify", "-token_in", "-in", token, "-digest", hashlib.sha256(documents[0]).hexdigest(), "-CAfile", args["tsa_ca"])
text = openssl("ts", "-reply", "-token_in", "-in", token, "-token_out", "-text").decode()
assert "Nonce: 0x" + nonce in text, text

print(json.dumps({"algorithm": algorithm, "signatures": 3, "methods": sorted(info["methods"])}))
