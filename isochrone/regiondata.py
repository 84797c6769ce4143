"""Where clouds stand: regions and edge cities as facts, each block with where it was seen. Data alone.

A block is a provider, the kind of its places (catalogue.Kind), the sources of its regions, of its coordinates and of
its ping URLs, a URL for all of its places ({} is the region) or none, and one place a line:

    region|city|country|latitude|longitude[|URL[|source of these coordinates]]

Country is ISO 3166-1 alpha-2. Coordinates are of the city that the provider names, not of a building; Google's and
Microsoft's own lists name a state or a country in places (gcp/asia-east1 "Taiwan"). GeoNames (geonames.org) is under
CC BY 4.0.

Over 400 lines: it is a table, and one place a line is what makes a change of it readable.
"""

from typing import Final

Block = tuple[str, str, tuple[str, str, str], str, str]

BLOCKS: Final[tuple[Block, ...]] = (
    (
        "aws",
        "region",
        (
            "cloudping.co's table",
            "oaustegard/oaustegard.github.io web-utilities/aws-ping.html",
            "mtojek/aws-closest-region, mda590/cloudping.co",
        ),
        "https://dynamodb.{}.amazonaws.com/ping",
        """\
af-south-1|Cape Town|ZA|-33.9249|18.4241
ap-east-1|Hong Kong|HK|22.3193|114.1694
ap-northeast-1|Tokyo|JP|35.6762|139.6503
ap-northeast-2|Seoul|KR|37.5665|126.978
ap-northeast-3|Osaka|JP|34.6937|135.5023
ap-south-1|Mumbai|IN|19.076|72.8777
ap-south-2|Hyderabad|IN|17.385|78.4867
ap-southeast-1|Singapore|SG|1.3521|103.8198
ap-southeast-2|Sydney|AU|-33.8688|151.2093
ap-southeast-3|Jakarta|ID|-6.2088|106.8456
ap-southeast-4|Melbourne|AU|-37.8136|144.9631
ap-southeast-5|Kuala Lumpur|MY|3.139|101.6869
ap-southeast-7|Bangkok|TH|13.7563|100.5018
ca-central-1|Montreal|CA|45.5088|-73.5878||GeoNames; turnkeylinux/aws-datacenters says 45.5,-73.6
ca-west-1|Calgary|CA|51.0447|-114.0719
eu-central-1|Frankfurt|DE|50.1109|8.6821
eu-central-2|Zurich|CH|47.3769|8.5417
eu-north-1|Stockholm|SE|59.3293|18.0686
eu-south-1|Milan|IT|45.4642|9.19
eu-south-2|Madrid|ES|40.4168|-3.7038
eu-west-1|Dublin|IE|53.3498|-6.2603
eu-west-2|London|GB|51.5074|-0.1278
eu-west-3|Paris|FR|48.8566|2.3522
il-central-1|Tel Aviv|IL|32.0853|34.7818
me-central-1|Dubai|AE|25.2048|55.2708
me-south-1|Manama|BH|26.2285|50.586
mx-central-1|Querétaro|MX|20.5881|-100.3881||GeoNames
sa-east-1|São Paulo|BR|-23.5558|-46.6396
us-east-1|Ashburn|US|39.0458|-77.4874
us-east-2|Columbus|US|39.9612|-82.9988
us-west-1|San Francisco|US|37.7749|-122.4194
us-west-2|Portland|US|45.5152|-122.6784
""",
    ),
    (
        "gcp",
        "region",
        (
            "GoogleCloudPlatform/region-picker data/regions.json",
            "the same",
            "GoogleCloudPlatform/gcping internal/config/endpoints.go",
        ),
        "",
        """\
africa-south1|Johannesburg|ZA|26.2056|28.0337
asia-east1|Taiwan|TW|23.6978|120.9605|https://asia-east1-5tkroniexa-de.a.run.app/api/ping
asia-east2|Hong Kong|HK|22.3964|114.1095|https://asia-east2-5tkroniexa-df.a.run.app/api/ping
asia-northeast1|Tokyo|JP|35.6762|139.6503|https://asia-northeast1-5tkroniexa-an.a.run.app/api/ping
asia-northeast2|Osaka|JP|34.6937|135.5023|https://asia-northeast2-5tkroniexa-dt.a.run.app/api/ping
asia-northeast3|Seoul|KR|37.5665|126.978|https://asia-northeast3-5tkroniexa-du.a.run.app/api/ping
asia-south1|Mumbai|IN|19.076|72.8777|https://asia-south1-5tkroniexa-el.a.run.app/api/ping
asia-south2|Delhi|IN|28.7041|77.1025|https://asia-south2-5tkroniexa-em.a.run.app/api/ping
asia-southeast1|Singapore|SG|1.3521|103.8198|https://asia-southeast1-5tkroniexa-as.a.run.app/api/ping
asia-southeast2|Jakarta|ID|-6.2088|106.8456|https://asia-southeast2-5tkroniexa-et.a.run.app/api/ping
australia-southeast1|Sydney|AU|-33.8688|151.2093|https://australia-southeast1-5tkroniexa-ts.a.run.app/api/ping
australia-southeast2|Melbourne|AU|-37.8136|144.9631|https://australia-southeast2-5tkroniexa-km.a.run.app/api/ping
europe-central2|Warsaw|PL|52.2297|21.0122|https://europe-central2-5tkroniexa-lm.a.run.app/api/ping
europe-north1|Hamina|FI|60.5693|27.1878|https://europe-north1-5tkroniexa-lz.a.run.app/api/ping
europe-southwest1|Madrid|ES|40.4167|-3.7025|https://europe-southwest1-5tkroniexa-no.a.run.app/api/ping
europe-west1|Belgium|BE|50.5039|4.4699|https://europe-west1-5tkroniexa-ew.a.run.app/api/ping
europe-west10|Berlin|DE|52.52|13.405|https://europe-west10-5tkroniexa-oe.a.run.app/api/ping
europe-west12|Turin|IT|45.0703|7.6869
europe-west2|London|GB|51.5074|-0.1278|https://europe-west2-5tkroniexa-nw.a.run.app/api/ping
europe-west3|Frankfurt|DE|50.1109|8.6821|https://europe-west3-5tkroniexa-ey.a.run.app/api/ping
europe-west4|Netherlands|NL|52.1326|5.2913|https://europe-west4-5tkroniexa-ez.a.run.app/api/ping
europe-west6|Zurich|CH|47.3769|8.5417|https://europe-west6-5tkroniexa-oa.a.run.app/api/ping
europe-west8|Milan|IT|45.4669|9.19|https://europe-west8-5tkroniexa-oc.a.run.app/api/ping
europe-west9|Paris|FR|48.8566|2.3522|https://europe-west9-5tkroniexa-od.a.run.app/api/ping
me-central1|Doha|QA|25.2854|51.531
me-central2|Dammam|SA|26.4207|50.0888
me-west1|Tel Aviv|IL|32.0853|34.7818|https://me-west1-5tkroniexa-zf.a.run.app/api/ping
northamerica-northeast1|Montréal|CA|45.5017|-73.5673|https://northamerica-northeast1-5tkroniexa-nn.a.run.app/api/ping
northamerica-northeast2|Toronto|CA|43.7417|-79.3733|https://northamerica-northeast2-5tkroniexa-pd.a.run.app/api/ping
southamerica-east1|São Paulo|BR|-23.5505|-46.6333|https://southamerica-east1-5tkroniexa-rj.a.run.app/api/ping
southamerica-west1|Santiago|CL|-33.45|-70.6667|https://southamerica-west1-5tkroniexa-tl.a.run.app/api/ping
us-central1|Iowa|US|41.878|-93.0977|https://us-central1-5tkroniexa-uc.a.run.app/api/ping
us-east1|South Carolina|US|33.8361|-81.1637|https://us-east1-5tkroniexa-ue.a.run.app/api/ping
us-east4|Northern Virginia|US|38.8334|-77.2365|https://us-east4-5tkroniexa-uk.a.run.app/api/ping
us-east5|Columbus|US|39.9622|-83.0006|https://us-east5-5tkroniexa-ul.a.run.app/api/ping
us-south1|Dallas|US|32.7792|-96.8089|https://us-south1-5tkroniexa-vp.a.run.app/api/ping
us-west1|Oregon|US|43.8041|-120.5542|https://us-west1-5tkroniexa-uw.a.run.app/api/ping
us-west2|Los Angeles|US|34.0522|-118.2437|https://us-west2-5tkroniexa-wl.a.run.app/api/ping
us-west3|Salt Lake City|US|40.7608|-111.891|https://us-west3-5tkroniexa-wm.a.run.app/api/ping
us-west4|Las Vegas|US|36.1699|-115.1398|https://us-west4-5tkroniexa-wn.a.run.app/api/ping
""",
    ),
    (
        "azure",
        "region",
        (
            "blrchen/azure-speed-test ui/src/assets/data/regions.json",
            "the same",
            "the same, region.service.ts (a third party's storage accounts: they may vanish)",
        ),
        "",
        """\
australiacentral|Canberra|AU|-35.3075|149.1244|https://s3australiacentral.blob.core.windows.net/public/latency-test.json
australiaeast|New South Wales|AU|-33.86|151.2094|https://s8australiaeast.blob.core.windows.net/public/latency-test.json
australiasoutheast|Victoria|AU|-37.8136|144.9631|https://q9australiasoutheast.blob.core.windows.net/public/latency-test.json
austriaeast|Vienna|AT|48.2201|16.2148|https://s3austriaeast.blob.core.windows.net/public/latency-test.json
belgiumcentral|Brussels|BE|50.8455|4.3557|https://s8belgiumcentral.blob.core.windows.net/public/latency-test.json
brazilsouth|Sao Paulo State|BR|-23.55|-46.633|https://q9brazilsouth.blob.core.windows.net/public/latency-test.json
canadacentral|Toronto|CA|43.653|-79.383|https://s3canadacentral.blob.core.windows.net/public/latency-test.json
canadaeast|Quebec|CA|46.817|-71.217|https://s8canadaeast.blob.core.windows.net/public/latency-test.json
centralindia|Pune|IN|18.5822|73.9197|https://q9centralindia.blob.core.windows.net/public/latency-test.json
centralus|Iowa|US|41.5908|-93.6208|https://s3centralus.blob.core.windows.net/public/latency-test.json
chilecentral|Santiago|CL|-33.4475|-70.6737|https://s8chilecentral.blob.core.windows.net/public/latency-test.json
eastasia|Hong Kong|HK|22.267|114.188|https://q9eastasia.blob.core.windows.net/public/latency-test.json
eastus|Virginia|US|37.3719|-79.8164|https://s3eastus.blob.core.windows.net/public/latency-test.json
eastus2|Virginia|US|36.6681|-78.3889|https://s8eastus2.blob.core.windows.net/public/latency-test.json
francecentral|Paris|FR|46.3772|2.373|https://q9francecentral.blob.core.windows.net/public/latency-test.json
germanywestcentral|Frankfurt|DE|50.1109|8.6821|https://s3germanywestcentral.blob.core.windows.net/public/latency-test.json
indonesiacentral|Jakarta|ID|-6.2|106.8167|https://s8indonesiacentral.blob.core.windows.net/public/latency-test.json
israelcentral|Israel|IL|31.2656|33.4507|https://q9israelcentral.blob.core.windows.net/public/latency-test.json
italynorth|Milan|IT|45.4689|9.1811|https://s3italynorth.blob.core.windows.net/public/latency-test.json
japaneast|Tokyo, Saitama|JP|35.68|139.77|https://s8japaneast.blob.core.windows.net/public/latency-test.json
japanwest|Osaka|JP|34.6939|135.5022|https://q9japanwest.blob.core.windows.net/public/latency-test.json
koreacentral|Seoul|KR|37.5665|126.978|https://s3koreacentral.blob.core.windows.net/public/latency-test.json
koreasouth|Busan|KR|35.1796|129.0756|https://s8koreasouth.blob.core.windows.net/public/latency-test.json
malaysiawest|Kuala Lumpur|MY|3.1409|101.6932|https://q9malaysiawest.blob.core.windows.net/public/latency-test.json
mexicocentral|Querétaro State|MX|20.5888|-100.3899|https://s3mexicocentral.blob.core.windows.net/public/latency-test.json
newzealandnorth|Auckland|NZ|-36.8485|174.7635|https://s8newzealandnorth.blob.core.windows.net/public/latency-test.json
northcentralus|Illinois|US|41.8819|-87.6278|https://q9northcentralus.blob.core.windows.net/public/latency-test.json
northeurope|Ireland|IE|53.3478|-6.2597|https://s3northeurope.blob.core.windows.net/public/latency-test.json
norwayeast|Norway|NO|59.9139|10.7522|https://s8norwayeast.blob.core.windows.net/public/latency-test.json
polandcentral|Warsaw|PL|52.2333|21.0167|https://q9polandcentral.blob.core.windows.net/public/latency-test.json
qatarcentral|Doha|QA|25.5515|51.4393|https://s3qatarcentral.blob.core.windows.net/public/latency-test.json
southafricanorth|Johannesburg|ZA|-25.7313|28.2184|https://s8southafricanorth.blob.core.windows.net/public/latency-test.json
southcentralus|Texas|US|29.4167|-98.5|https://q9southcentralus.blob.core.windows.net/public/latency-test.json
southindia|Chennai|IN|12.9822|80.1636|https://s3southindia.blob.core.windows.net/public/latency-test.json
southeastasia|Singapore|SG|1.283|103.833|https://s8southeastasia.blob.core.windows.net/public/latency-test.json
spaincentral|Madrid|ES|40.4259|3.4209|https://q9spaincentral.blob.core.windows.net/public/latency-test.json
swedencentral|Gävle|SE|60.6749|17.1413|https://s3swedencentral.blob.core.windows.net/public/latency-test.json
switzerlandnorth|Zurich|CH|47.4515|8.5646|https://s8switzerlandnorth.blob.core.windows.net/public/latency-test.json
uaenorth|Dubai|AE|25.2667|55.3167|https://q9uaenorth.blob.core.windows.net/public/latency-test.json
uksouth|London|GB|50.941|-0.799|https://s3uksouth.blob.core.windows.net/public/latency-test.json
ukwest|Cardiff|GB|53.427|-3.084|https://s8ukwest.blob.core.windows.net/public/latency-test.json
westcentralus|Wyoming|US|40.89|-110.234|https://q9westcentralus.blob.core.windows.net/public/latency-test.json
westeurope|Netherlands|NL|52.3667|4.9|https://s3westeurope.blob.core.windows.net/public/latency-test.json
westindia|Mumbai|IN|19.088|72.868|https://s8westindia.blob.core.windows.net/public/latency-test.json
westus|California|US|37.783|-122.417|https://q9westus.blob.core.windows.net/public/latency-test.json
westus2|Washington|US|47.233|-119.852|https://s3westus2.blob.core.windows.net/public/latency-test.json
westus3|Phoenix|US|33.4484|-112.074|https://s8westus3.blob.core.windows.net/public/latency-test.json
""",
    ),
    (
        "akamai-linode",
        "region",
        (
            "linode.com/speed-test",
            "GeoNames",
            "linode.com/speed-test",
        ),
        "",
        """\
us-southeast|Atlanta|US|33.749|-84.388|https://speedtest.atlanta.linode.com/
us-ord|Chicago|US|41.85|-87.65|https://speedtest.chicago.linode.com/
us-central|Dallas|US|32.7831|-96.8067|https://speedtest.dallas.linode.com/
us-west|Fremont|US|37.5483|-121.9886|https://speedtest.fremont.linode.com/
us-lax|Los Angeles|US|34.0522|-118.2437|https://speedtest.los-angeles.linode.com/
us-mia|Miami|US|25.7743|-80.1937|https://speedtest.miami.linode.com/
us-east|Newark|US|40.7357|-74.1724|https://speedtest.newark.linode.com/
br-gru|São Paulo|BR|-23.5475|-46.6361|https://speedtest.sao-paulo.linode.com/
us-sea|Seattle|US|47.6062|-122.3321|https://speedtest.seattle.linode.com/
ca-central|Toronto|CA|43.7064|-79.3986|https://speedtest.toronto1.linode.com/
us-iad|Washington|US|38.8951|-77.0364|https://speedtest.washington.linode.com/
nl-ams|Amsterdam|NL|52.374|4.8897|https://speedtest.amsterdam.linode.com/
eu-central|Frankfurt am Main|DE|50.1155|8.6842|https://speedtest.frankfurt.linode.com/
eu-west|London|GB|51.5085|-0.1257|https://speedtest.london.linode.com/
es-mad|Madrid|ES|40.4165|-3.7026|https://speedtest.madrid.linode.com/
it-mil|Milan|IT|45.4643|9.1895|https://speedtest.milan.linode.com/
fr-par|Paris|FR|48.8534|2.3488|https://speedtest.paris.linode.com/
se-sto|Stockholm|SE|59.3294|18.0687|https://speedtest.stockholm.linode.com/
in-maa|Chennai|IN|13.0878|80.2785|https://speedtest.chennai.linode.com/
id-cgk|Jakarta|ID|-6.2146|106.8451|https://speedtest.jakarta.linode.com/
ap-west|Mumbai|IN|19.0728|72.8826|https://speedtest.mumbai1.linode.com/
jp-osa|Osaka|JP|34.6938|135.5011|https://speedtest.osaka.linode.com/
ap-south|Singapore|SG|1.2897|103.8501|https://speedtest.singapore.linode.com/
ap-northeast|Tokyo|JP|35.6895|139.6917|https://speedtest.tokyo2.linode.com/
ap-southeast|Sydney|AU|-33.8678|151.2073|https://speedtest.sydney.linode.com/
de-fra-2|Frankfurt am Main|DE|50.1155|8.6842|https://de-fra-2.speedtest.linode.com/
gb-lon|London|GB|51.5085|-0.1257|https://gb-lon.speedtest.linode.com/
in-bom-2|Mumbai|IN|19.0728|72.8826|https://in-bom-2.speedtest.linode.com/
sg-sin-2|Singapore|SG|1.2897|103.8501|https://sg-sin-2.speedtest.linode.com/
jp-tyo-3|Tokyo|JP|35.6895|139.6917|https://jp-tyo-3.speedtest.linode.com/
au-mel|Melbourne|AU|-37.814|144.9633|https://au-mel.speedtest.linode.com/
""",
    ),
    (
        "hetzner",
        "region",
        (
            "the operator's speed-test hosts",
            "GeoNames",
            "the operator's speed-test hosts",
        ),
        "https://{}-speed.hetzner.com/",
        """\
fsn1|Falkenstein|DE|50.4779|12.3713
nbg1|Nürnberg|DE|49.4542|11.0775
hel1|Helsinki|FI|60.1695|24.9354
ash|Ashburn|US|39.0437|-77.4875
hil|Hillsboro|US|45.5229|-122.9898
sin|Singapore|SG|1.2897|103.8501
""",
    ),
    (
        "ovh",
        "region",
        (
            "the operator's proof.ovh hosts",
            "GeoNames",
            "the operator's proof.ovh hosts",
        ),
        "",
        """\
gra|Gravelines|FR|50.9865|2.1281|https://gra.proof.ovh.net/
rbx|Roubaix|FR|50.6942|3.1746|https://rbx.proof.ovh.net/
sbg|Strasbourg|FR|48.5839|7.7455|https://sbg.proof.ovh.net/
eri|Erith|GB|51.4832|0.1748|https://eri.proof.ovh.net/
sgp|Singapore|SG|1.2897|103.8501|https://sgp.proof.ovh.net/
bom|Mumbai|IN|19.0728|72.8826|https://bom.proof.ovh.net/
syd|Sydney|AU|-33.8678|151.2073|https://syd.proof.ovh.net/
bhs|Beauharnois|CA|45.3134|-73.8725|https://bhs.proof.ovh.ca/
vin|Vint Hill|US|38.7479|-77.6736|https://vin.proof.ovh.us/|unsourced
hil|Hillsboro|US|45.5229|-122.9898|https://hil.proof.ovh.us/
""",
    ),
    (
        "fly",
        "behind-anycast",
        (
            "superfly/docs reference/regions",
            "GeoNames",
            "none (a host of one's own is needed)",
        ),
        "",
        """\
ams|Amsterdam|NL|52.374|4.8897
arn|Stockholm|SE|59.3294|18.0687
bom|Mumbai|IN|19.0728|72.8826
cdg|Paris|FR|48.8534|2.3488
dfw|Dallas|US|32.7831|-96.8067
ewr|Secaucus|US|40.7895|-74.0565
fra|Frankfurt am Main|DE|50.1155|8.6842
gru|São Paulo|BR|-23.5475|-46.6361
iad|Ashburn|US|39.0437|-77.4875
jnb|Johannesburg|ZA|-26.2023|28.0436
lax|Los Angeles|US|34.0522|-118.2437
lhr|London|GB|51.5085|-0.1257
nrt|Tokyo|JP|35.6895|139.6917
ord|Chicago|US|41.85|-87.65
sin|Singapore|SG|1.2897|103.8501
sjc|San Jose|US|37.3394|-121.895
syd|Sydney|AU|-33.8678|151.2073
yyz|Toronto|CA|43.7064|-79.3986
""",
    ),
    (
        "cloudflare",
        "edge",
        (
            "Netrvin/cloudflare-colo-list locations.json",
            "the same",
            "the answer names the place (colo=): it cannot be chosen",
        ),
        "https://speed.cloudflare.com/cdn-cgi/trace",
        """\
AAE|Annabah|DZ|36.8222|7.8092
ABJ|Abidjan|CI|5.2614|-3.9263
ABQ|Albuquerque|US|35.0402|-106.609
ACC|Accra|GH|5.6052|-0.1668
ADB|Izmir|TR|38.2924|27.157
ADD|Addis Ababa|ET|8.9779|38.7993
ADL|Adelaide|AU|-34.945|138.531
AGR|Agra|IN|27.1558|77.9609
AKL|Auckland|NZ|-37.0081|174.792
AKX|Aktyubinsk|KZ|50.2458|57.2067
ALA|Almaty|KZ|43.3521|77.0405
ALG|Algiers|DZ|36.691|3.2154
AMD|Ahmedabad|IN|23.0772|72.6347
AMM|Amman|JO|31.7226|35.9932
AMS|Amsterdam|NL|52.3086|4.7639
ANC|Anchorage|US|61.1744|-149.996
ARI|Arica|CL|-18.3485|-70.3387
ARN|Stockholm|SE|59.6519|17.9186
ARU|Aracatuba|BR|-21.1413|-50.4247
ASK|Yamoussoukro|CI|6.9032|-5.3656
ASU|Asuncion|PY|-25.24|-57.52
ATH|Athens|GR|37.9364|23.9445
ATL|Atlanta|US|33.6367|-84.4281
AUS|Austin|US|30.1945|-97.6699
BAH|Manama|BH|26.2708|50.6336
BAQ|Barranquilla|CO|10.8896|-74.7808
BBI|Bhubaneswar|IN|20.2444|85.8178
BCN|Barcelona|ES|41.2971|2.0785
BDQ|Vadodara|IN|22.3362|73.2263
BEG|Belgrad|RS|44.8184|20.3091
BEL|Belem|BR|-1.3793|-48.4763
BEY|Beirut|LB|33.8209|35.4884
BGI|Bridgetown|BB|13.0746|-59.4925
BGR|Bangor|US|44.8074|-68.8281
BGW|Baghdad|IQ|33.2625|44.2346
BKK|Bangkok|TH|13.6811|100.747
BLR|Bangalore|IN|13.1979|77.7063
BNA|Nashville|US|36.1245|-86.6782
BNE|Brisbane|AU|-27.3842|153.117
BOD|Bordeaux/Merignac|FR|44.8283|-0.7156
BOG|Bogota|CO|4.7016|-74.1469
BOM|Mumbai|IN|19.0887|72.8679
BOS|Boston|US|42.3643|-71.0052
BRU|Brussels|BE|50.9014|4.4844
BSB|Brasilia|BR|-15.8692|-47.9208
BSR|Basrah|IQ|30.5491|47.6621
BTS|Bratislava|SK|48.1702|17.2127
BUD|Budapest|HU|47.4369|19.2556
BUF|Buffalo|US|42.9405|-78.7322
BWN|Bandar Seri Begawan|BN|4.9442|114.928
CAI|Cairo|EG|30.1219|31.4056
CAW|Campos Dos Goytacazes|BR|-21.6983|-41.3017
CBR|Canberra|AU|-35.3069|149.195
CCU|Kolkata|IN|22.6547|88.4467
CDG|Paris|FR|49.0128|2.55
CEB|Lapu-Lapu City|PH|10.3075|123.979
CFC|Caçador|BR|-26.7762|-51.0125
CGB|Cuiaba|BR|-15.6529|-56.1167
CGK|Jakarta|ID|-6.1256|106.656
CGP|Chittagong|BD|22.2496|91.8133
CGY|Cagayan De Oro City|PH|8.4156|124.611
CHC|Christchurch|NZ|-43.4894|172.532
CJB|Coimbatore|IN|11.03|77.0434
CLE|Cleveland|US|41.4117|-81.8498
CLO|Cali|CO|3.5432|-76.3816
CLT|Charlotte|US|35.214|-80.9431
CMB|Colombo|LK|7.1808|79.8841
CMH|Columbus|US|39.998|-82.8919
CNF|Belo Horizonte|BR|-19.6244|-43.9719
CNN|Mattanur|IN|11.92|75.55
CNX|Chiang Mai|TH|18.7668|98.9626
COK|Cochin|IN|10.152|76.4019
COR|Cordoba|AR|-31.3236|-64.208
CPH|Copenhagen|DK|55.6179|12.656
CPT|Cape Town|ZA|-33.9648|18.6017
CRK|Angeles City|PH|15.186|120.56
CVG|Hebron|US|39.0488|-84.6678
CWB|Curitiba|BR|-25.5285|-49.1758
CZL|Constantine|DZ|36.276|6.6204
DAC|Dhaka|BD|23.8433|90.3978
DAD|Da Nang|VN|16.0439|108.199
DAR|Dar es Salaam|TZ|-6.8781|39.2026
DEL|New Delhi|IN|28.5665|77.1031
DEN|Denver|US|39.8617|-104.673
DFW|Dallas-Fort Worth|US|32.8968|-97.038
DKR|Dakar|SN|14.7397|-17.4902
DLA|Douala|CM|4.0061|9.7195
DME|Moscow|RU|55.4088|37.9063
DMM|Ad Dammam|SA|26.4712|49.7979
DOH|Doha|QA|25.2606|51.6138
DPS|Denpasar-Bali Island|ID|-8.7482|115.167
DTW|Detroit|US|42.2124|-83.3534
DUB|Dublin|IE|53.4213|-6.2701
DUR|Durban|ZA|-29.6144|31.1197
DUS|Dusseldorf|DE|51.2895|6.7668
DXB|Dubai|AE|25.2528|55.3644
EBB|Kampala|UG|0.0424|32.4435
EBL|Arbil|IQ|36.2376|43.9632
EVN|Yerevan|AM|40.1473|44.3959
EWR|Newark|US|40.6925|-74.1687
EZE|Ezeiza|AR|-34.8222|-58.5358
FCO|Rome|IT|41.8045|12.2508
FIH|Kinshasa|CD|-4.3857|15.4446
FLN|Florianopolis|BR|-27.6703|-48.5525
FOR|Fortaleza|BR|-3.7763|-38.5326
FRA|Frankfurt-am-Main|DE|50.0264|8.5431
FRU|Bishkek|KG|43.0613|74.4775
FSD|Sioux Falls|US|43.582|-96.7419
FUK|Fukuoka|JP|33.5859|130.451
GBE|Gaborone|BW|-24.5552|25.9182
GDL|Guadalajara|MX|20.5218|-103.311
GEO|Georgetown|GY|6.4985|-58.2541
GIG|Rio De Janeiro|BR|-22.81|-43.2506
GND|Saint George's|GD|12.0042|-61.7862
GOT|Gothenburg|SE|57.6628|12.2798
GRU|Sao Paulo|BR|-23.4356|-46.4731
GUA|Guatemala City|GT|14.5833|-90.5275
GUM|Hagatna|GU|13.4834|144.796
GVA|Geneva|CH|46.2381|6.109
GYD|Baku|AZ|40.4675|50.0467
GYE|Guayaquil|EC|-2.1574|-79.8836
GYN|Goiania|BR|-16.632|-49.2207
HAM|Hamburg|DE|53.6304|9.9882
HAN|Hanoi|VN|21.2212|105.807
HBA|Hobart|AU|-42.8361|147.51
HEL|Helsinki|FI|60.3172|24.9633
HFA|Haifa|IL|32.8094|35.0431
HKG|Hong Kong|HK|22.3089|113.915
HNL|Honolulu|US|21.3187|-157.922
HRE|Harare|ZW|-17.9318|31.0928
HYD|Hyderabad|IN|17.2313|78.4299
IAD|Dulles|US|38.9445|-77.4558
IAH|Houston|US|29.9844|-95.3414
ICN|Seoul|KR|37.4691|126.451
IND|Indianapolis|US|39.7173|-86.2944
ISB|Islamabad|PK|33.6167|73.0992
IST|Arnavutkoy|TR|41.2622|28.7278
ISU|Sulaymaniyah|IQ|35.5617|45.3167
IXC|Chandigarh|IN|30.6735|76.7885
JAX|Jacksonville|US|30.4941|-81.6879
JDO|Juazeiro Do Norte|BR|-7.219|-39.2701
JED|Jeddah|SA|21.6796|39.1565
JHB|Senai|MY|1.6413|103.67
JIB|Djibouti City|DJ|11.5473|43.1595
JNB|Johannesburg|ZA|-26.1333|28.25
JOG|Yogyakarta-Java Island|ID|-7.7882|110.432
JOI|Joinville|BR|-26.2245|-48.7974
JRG|Jharsuguda|IN|21.9135|84.0504
KBP|Kiev|UA|50.345|30.8947
KCH|Kuching|MY|1.4847|110.347
KEF|Reykjavik|IS|63.985|-22.6056
KGL|Kigali|RW|-1.9686|30.1395
KHH|Kaohsiung City|TW|22.5771|120.35
KHI|Karachi|PK|24.9065|67.1608
KIN|Kingston|JM|17.9357|-76.7875
KIX|Osaka|JP|34.4273|135.244
KJA|Krasnoyarsk|RU|56.1729|92.4933
KNU|Kanpur|IN|26.3995|80.427
KTM|Kathmandu|NP|27.6966|85.3591
KUL|Kuala Lumpur|MY|2.7456|101.71
KWI|Kuwait City|KW|29.2266|47.9689
LAD|Luanda|AO|-8.8584|13.2312
LAS|Las Vegas|US|36.0801|-115.152
LAX|Los Angeles|US|33.9425|-118.408
LCA|Larnarca|CY|34.8751|33.6249
LED|St. Petersburg|RU|59.8003|30.2625
LHE|Lahore|PK|31.5216|74.4036
LHR|London|GB|51.4706|-0.4619
LIM|Lima|PE|-12.0219|-77.1143
LIS|Lisbon|PT|38.7813|-9.1359
LJU|Ljubljana|SI|46.2237|14.4576
LLK|Lankaran|AZ|38.7464|48.818
LLW|Lilongwe|MW|-13.7894|33.781
LOS|Lagos|NG|6.5774|3.3212
LPB|La Paz / El Alto|BO|-16.5133|-68.1923
LUN|Lusaka|ZM|-15.3308|28.4526
LUX|Luxembourg|LU|49.6266|6.2115
LYS|Lyon|FR|45.7264|5.0908
MAA|Chennai|IN|12.99|80.1693
MAD|Madrid|ES|40.4936|-3.5668
MAN|Manchester|GB|53.3537|-2.275
MAO|Manaus|BR|-3.0386|-60.0497
MBA|Mombasa|KE|-4.0348|39.5942
MCI|Kansas City|US|39.2976|-94.7139
MCT|Muscat|OM|23.5933|58.2844
MDE|Rionegro|CO|6.1645|-75.4231
MEL|Melbourne|AU|-37.6733|144.843
MEM|Memphis|US|35.0424|-89.9767
MEX|Mexico City|MX|19.4363|-99.0721
MFM|Taipa|MO|22.1496|113.592
MIA|Miami|US|25.7932|-80.2906
MLA|Luqa|MT|35.8575|14.4775
MLE|Male|MV|4.1918|73.5291
MLG|Malang-Java Island|ID|-7.9266|112.715
MNL|Manila|PH|14.5086|121.02
MPM|Maputo|MZ|-25.9208|32.5726
MRS|Marseille|FR|43.4393|5.2214
MRU|Port Louis|MU|-20.4302|57.6836
MSP|Minneapolis|US|44.882|-93.2218
MSQ|Minsk|BY|53.8825|28.0307
MUC|Munich|DE|48.3538|11.7861
MXP|Milan|IT|45.6306|8.7281
NAG|Naqpur|IN|21.0922|79.0472
NBO|Nairobi|KE|-1.3192|36.9278
NJF|Najaf|IQ|31.9897|44.4042
NOU|Noumea|NC|-22.0146|166.213
NQN|Neuquen|AR|-38.949|-68.1557
NQZ|Astana|KZ|51.0222|71.4669
NRT|Tokyo|JP|35.7647|140.386
NVT|Navegantes|BR|-26.88|-48.6514
OKA|Naha|JP|26.1958|127.646
OKC|Oklahoma City|US|35.3931|-97.6007
OMA|Omaha|US|41.3032|-95.8941
ORD|Chicago|US|41.9786|-87.9048
ORF|Norfolk|US|36.8946|-76.2012
ORN|Oran|DZ|35.6239|-0.6212
OSL|Oslo|NO|60.1939|11.1004
OTP|Bucharest|RO|44.5722|26.1022
OUA|Ouagadougou|BF|12.3532|-1.5124
PAT|Patna|IN|25.5913|85.088
PBH|Paro|BT|27.4032|89.4246
PBM|Zandery|SR|5.4528|-55.1878
PDX|Portland|US|45.5887|-122.598
PER|Perth|AU|-31.9403|115.967
PHL|Philadelphia|US|39.8719|-75.2411
PHX|Phoenix|US|33.4343|-112.012
PIT|Pittsburgh|US|40.4915|-80.2329
PMO|Palermo|IT|38.176|13.091
PMW|Palmas|BR|-10.2915|-48.357
PNH|Phnom Penh|KH|11.5466|104.844
PNQ|Pune|IN|18.5821|73.9197
POA|Porto Alegre|BR|-29.9944|-51.1714
POS|Port of Spain|TT|10.5954|-61.3372
PPT|Papeete|PF|-17.5537|-149.607
PRG|Prague|CZ|50.1008|14.26
PTY|Tocumen|PA|9.0714|-79.3835
QRO|Queretaro|MX|20.6173|-100.186
QWJ|Americana|BR|-22.738|-47.334
RAO|Ribeirao Preto|BR|-21.1364|-47.7767
RDU|Raleigh/Durham|US|35.8776|-78.7875
REC|Recife|BR|-8.1265|-34.9236
RIC|Richmond|US|37.5052|-77.3197
RIX|Riga|LV|56.9236|23.9711
RUH|Riyadh|SA|24.9576|46.6988
RUN|St Denis|RE|-20.8871|55.5103
SAN|San Diego|US|32.7336|-117.19
SAP|La Mesa|HN|15.4526|-87.9236
SAT|San Antonio|US|29.5337|-98.4698
SCL|Santiago|CL|-33.393|-70.7858
SDQ|Santo Domingo|DO|18.4297|-69.6689
SEA|Seattle|US|47.449|-122.309
SFO|San Francisco|US|37.619|-122.375
SGN|Ho Chi Minh City|VN|10.8188|106.652
SIN|Singapore|SG|1.3502|103.994
SJC|San Jose|US|37.3626|-121.929
SJK|Sao Jose Dos Campos|BR|-23.2292|-45.8615
SJO|San Jose|CR|9.9939|-84.2088
SJP|Sao Jose Do Rio Preto|BR|-20.8166|-49.4065
SJU|San Juan|PR|18.4394|-66.0018
SKG|Thessaloniki|GR|40.5197|22.9709
SKP|Skopje|MK|41.9616|21.6214
SLC|Salt Lake City|US|40.7884|-111.978
SMF|Sacramento|US|38.6954|-121.591
SOD|Sorocaba|BR|-23.478|-47.49
SOF|Sofia|BG|42.6967|23.4114
SSA|Salvador|BR|-12.0684|-45.7115
STI|Santiago|DO|19.4061|-70.6047
STL|St Louis|US|38.7487|-90.37
STR|Stuttgart|DE|48.6899|9.222
SUV|Nausori|FJ|-18.0433|178.559
SYD|Sydney|AU|-33.9461|151.177
TBS|Tbilisi|GE|41.6692|44.9547
TGU|Tegucigalpa|HN|14.0609|-87.2172
TIA|Tirana|AL|41.4147|19.7206
TLH|Tallahassee|US|30.3965|-84.3503
TLL|Tallinn|EE|59.4133|24.8328
TLV|Tel Aviv|IL|32.0114|34.8867
TNR|Antananarivo|MG|-18.7969|47.4788
TPA|Tampa|US|27.9755|-82.5332
TPE|Taipei|TW|25.0777|121.233
TUN|Tunis|TN|36.851|10.2272
TXL|Berlin|DE|52.5597|13.2877
UDI|Uberlandia|BR|-18.8836|-48.2253
UDR|Udaipur|IN|24.6177|73.8961
UIO|Quito|EC|-0.1292|-78.3575
ULN|Ulan Bator|MN|47.8431|106.767
URT|Surat Thani|TH|9.1326|99.1356
VCP|Campinas|BR|-23.0074|-47.1345
VIE|Vienna|AT|48.1103|16.5697
VIX|Vitoria|BR|-20.2581|-40.2864
VNO|Vilnius|LT|54.6341|25.2858
VTE|Vientiane|LA|17.9883|102.563
WAW|Warsaw|PL|52.1657|20.9671
WDH|Windhoek|NA|-22.4799|17.4709
WLG|Wellington|NZ|-41.3272|174.805
WRO|Wroclaw|PL|51.1027|16.8858
XAP|Chapeco|BR|-27.1342|-52.6566
XNH|Nasiriyah|IQ|30.9358|46.0901
YHZ|Halifax|CA|44.8808|-63.5086
YUL|Montreal|CA|45.4706|-73.7408
YVR|Vancouver|CA|49.1939|-123.184
YWG|Winnipeg|CA|49.91|-97.2399
YXE|Saskatoon|CA|52.1708|-106.7
YYC|Calgary|CA|51.1139|-114.02
YYZ|Toronto|CA|43.6772|-79.6306
ZAG|Zagreb|HR|45.7429|16.0688
ZDM|Ramallah|PS|32.2719|35.0194
ZRH|Zurich|CH|47.4647|8.5492
""",
    ),
)
