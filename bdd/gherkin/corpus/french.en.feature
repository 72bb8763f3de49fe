# language: fr
Fonctionnalité: argent
  Scénario: un
    Étant donné que j'ai un compte
    Etant donné qu'il est ouvert
    Quand je retire
    Alors je reçois
    Et que rien
