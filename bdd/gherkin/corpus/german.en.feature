# language: de
Funktionalität: Geld
  Grundlage:
    Angenommen a
  Szenario: b
    Wenn c
    Dann d
    Und e
    Aber f
