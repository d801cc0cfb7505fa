-- Until the end of the transaction: be a subscriber, with the claims of its token.
select
    set_config('role', %(role)s, true),
    set_config('request.jwt.claims', %(claims)s, true)
