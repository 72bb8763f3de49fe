Feature: Cash
Background:
Given the account holds 100
Scenario: withdraw cash
When the customer asks for 20
|name|
Then the machine pays 20
"""
some text
"""
