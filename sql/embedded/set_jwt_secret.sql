select tendril_private.set_jwt_secret(%(secret)s);
